/** `kvatlas serve`: the router for real. */
import type { Command } from "commander";
import { startRouter } from "../app/serve.ts";
import { loadConfig } from "../config/file-config.ts";
import { messageOf } from "../core/errors.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { pinoLog } from "../observe/pino-log.ts";

export function addServeCommand(program: Command, version: string): void {
  program
    .command("serve")
    .requiredOption("--config <file>", "kvatlas.yaml")
    .description("serve as the endpoint picker of a gateway")
    .addHelpText("after", "\nExample:\n  kvatlas serve --config kvatlas.yaml")
    .action((options: { readonly config: string }) => serve(options.config, version));
}

/** Resolves after SIGTERM or SIGINT, when all in flight is answered; a second signal ends at once. */
async function serve(file: string, version: string): Promise<void> {
  const config = loadConfig(file);
  const log = pinoLog({ level: config.observe.logLevel });
  const random = seededRandom(process.pid ^ nodeClock.wallMs());
  const router = await startRouter(config, { clock: nodeClock, random, log, version });
  const signal = await new Promise<string>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve(name));
  });
  for (const name of ["SIGTERM", "SIGINT"]) process.once(name, () => process.exit(1));
  log.info({ signal }, "draining");
  try {
    await router.drain();
    await router.stop();
    log.info({}, "stopped");
    process.exit(0);
  } catch (error) {
    log.error({ error: messageOf(error) }, "stopping failed");
    process.exit(1);
  }
}
