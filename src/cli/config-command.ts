/** `kvatlas config check FILE`: says whether a configuration would be accepted, without starting. */
import type { Command } from "commander";

export function addConfigCommand(program: Command): void {
  const config = program.command("config").description("look at configuration files");
  config
    .command("check")
    .argument("<file>", "kvatlas.yaml")
    .description("check a configuration and the files it names: endpoints, certificates")
    .addHelpText("after", "\nExample:\n  kvatlas config check kvatlas.yaml")
    .action(async (file: string) => {
      const { loadConfig } = await import("../config/file-config.ts");
      const { loadEndpoints } = await import("../config/file-endpoints-check.ts");
      const { readTls } = await import("../extproc/file-tls.ts");
      const loaded = loadConfig(file);
      const endpoints = loadEndpoints(loaded);
      if (loaded.extProc.tls !== null) await readTls(loaded.extProc.tls);
      process.stdout.write(`${file}: ok, ${endpoints.length} endpoints\n`);
    });
}
