/** `kvatlas relay`: engines' events into the fleet's log. */
import type { Command } from "commander";

export function addRelayCommand(program: Command, version: string): void {
  program
    .command("relay")
    .requiredOption("--config <file>", "kvatlas.yaml, with events.relay: separate")
    .description("publish the KV events of the endpoints to NATS, for routers to read")
    .addHelpText("after", "\nExample:\n  kvatlas relay --config kvatlas.yaml")
    .action(async (options: { readonly config: string }) => {
      const { relay } = await import("./relay.ts");
      await relay(options.config, version);
    });
}
