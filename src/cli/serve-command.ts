/** `kvatlas serve`: the router for real. */
import type { Command } from "commander";

export function addServeCommand(program: Command, version: string): void {
  program
    .command("serve")
    .requiredOption("--config <file>", "kvatlas.yaml")
    .description("serve as the endpoint picker of a gateway")
    .addHelpText("after", "\nExample:\n  kvatlas serve --config kvatlas.yaml")
    .action(async (options: { readonly config: string }) => {
      // Loaded when needed: help and errors of the command line come without gRPC, LMDB and ZMQ.
      const { serve } = await import("./serve.ts");
      await serve(options.config, version);
    });
}
