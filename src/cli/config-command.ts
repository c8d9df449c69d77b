/** `kvatlas config check FILE`: says whether a configuration would be accepted, without starting. */
import type { Command } from "commander";

export function addConfigCommand(program: Command): void {
  const config = program.command("config").description("look at configuration files");
  config
    .command("check")
    .argument("<file>", "kvatlas.yaml")
    .description("check a configuration and the endpoints file it names")
    .addHelpText("after", "\nExample:\n  kvatlas config check kvatlas.yaml")
    .action(async (file: string) => {
      const { loadConfig } = await import("../config/file-config.ts");
      const { loadEndpoints } = await import("../config/file-endpoints-check.ts");
      const loaded = loadConfig(file);
      const endpoints = loadEndpoints(loaded);
      process.stdout.write(`${file}: ok, ${endpoints.length} endpoints\n`);
    });
}
