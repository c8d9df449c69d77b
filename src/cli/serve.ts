/** `kvatlas serve`: the router as a process, from its configuration to its last signal. */
import { startRouter } from "../app/serve.ts";
import { loadConfig } from "../config/file-config.ts";
import { messageOf } from "../core/errors.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { pinoLog } from "../observe/pino-log.ts";

/** Resolves after SIGTERM or SIGINT, when all in flight is answered; a second signal ends at once. */
export async function serve(file: string, version: string): Promise<void> {
  const config = loadConfig(file);
  const log = pinoLog({ level: config.observe.logLevel });
  const random = seededRandom(process.pid ^ nodeClock.wallMs());
  const router = await startRouter(config, { clock: nodeClock, random, log, version });
  const signal = await new Promise<string>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve(name));
  });
  for (const name of ["SIGTERM", "SIGINT"]) {
    process.once(name, () => void router.abandon().finally(() => process.exit(1)));
  }
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
