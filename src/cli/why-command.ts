/** `kvatlas why`: where a request went, and why. */
import type { Command } from "commander";
import { outputOption } from "./options.ts";
import type { WhyFlags } from "./why.ts";

export function addWhyCommand(program: Command): void {
  program
    .command("why")
    .argument("<request-id>", "the request's x-request-id, or the id in kvatlas's log")
    .option("--url <url>", "admin address of the router", "http://127.0.0.1:9090")
    .addOption(outputOption())
    .description("tell where a recent request was sent, and why")
    .addHelpText("after", "\nExample:\n  kvatlas why 5f0c2a1e --url http://127.0.0.1:9090")
    .action(async (requestId: string, flags: WhyFlags) => {
      const { tellWhy } = await import("./why.ts");
      await tellWhy(requestId, flags);
    });
}
