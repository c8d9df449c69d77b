/** `kvatlas pods`: what a running router knows of each pod. */
import type { Command } from "commander";
import { outputOption } from "./options.ts";
import type { PodsFlags } from "./pods.ts";

export function addPodsCommand(program: Command): void {
  program
    .command("pods")
    .option("--url <url>", "admin address of the router", "http://127.0.0.1:9090")
    .addOption(outputOption())
    .description("show what a running router knows of each pod, and how well")
    .addHelpText("after", "\nExample:\n  kvatlas pods --url http://127.0.0.1:9090 -o json")
    .action(async (flags: PodsFlags) => {
      const { showPods } = await import("./pods.ts");
      await showPods(flags);
    });
}
