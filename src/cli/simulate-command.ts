/** `kvatlas simulate`: this router under a simulator's clock. */
import type { Command } from "commander";

export function addSimulateCommand(program: Command): void {
  program
    .command("simulate")
    .description("speak the simulate protocol on stdin and stdout: one JSON object a line")
    .addHelpText(
      "after",
      "\nThe simulator owns the clock. Only init and route are answered; exit code 2: a line is not JSON.",
    )
    .action(async () => {
      const { simulate } = await import("./simulate.ts");
      await simulate();
    });
}
