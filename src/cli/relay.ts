/** `kvatlas relay`: the relay as a process, from its configuration to its last signal. */
import { startRelay } from "../app/relay.ts";
import { loadConfig } from "../config/file-config.ts";
import { messageOf } from "../core/errors.ts";
import { nodeClock } from "../core/node-clock.ts";
import { pinoLog } from "../observe/pino-log.ts";

/** Resolves after SIGTERM or SIGINT; a second signal ends at once. */
export async function relay(file: string, version: string): Promise<void> {
  const config = loadConfig(file);
  const log = pinoLog({ level: config.observe.logLevel });
  const running = await startRelay(config, { clock: nodeClock, log, version });
  const signal = await new Promise<string>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve(name));
  });
  for (const name of ["SIGTERM", "SIGINT"]) process.once(name, () => process.exit(1));
  log.info({ signal }, "stopping");
  try {
    await running.stop();
    log.info({}, "stopped");
    process.exit(0);
  } catch (error) {
    log.error({ error: messageOf(error) }, "stopping failed");
    process.exit(1);
  }
}
