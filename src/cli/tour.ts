/** `kvatlas tour` as a process: its terminal, its signals, its exit code. */
import { fileURLToPath } from "node:url";
import { nodeClock } from "../core/node-clock.ts";
import { createScreen } from "../lab/tour/screen.ts";
import { runTour } from "../lab/tour/tour.ts";

/** As commander hands them over. */
export interface TourFlags {
  readonly seconds: number;
  readonly engines: number;
  readonly seed: number;
  readonly trace?: string;
  readonly keep?: true;
  readonly listen: string;
  readonly nats: boolean;
  readonly envoy: boolean;
  readonly plain?: true;
}

/** A second signal within this time is npm's copy of the first, ms. */
const SAME_SIGNAL_MS = 1000;
const COLUMNS_DEFAULT = 120;

/** Resolves with the exit code. */
export async function tour(flags: TourFlags): Promise<number> {
  const interrupted = untilInterrupted();
  // The reader of the output has gone: nobody is left to tell.
  process.stdout.on("error", () => interrupted.abort());
  const screen = createScreen({
    write: (text) => process.stdout.write(text),
    isInteractive: process.stdout.isTTY === true && flags.plain !== true,
    // Terminals that do not know their width say 0.
    columns: () => process.stdout.columns || COLUMNS_DEFAULT,
  });
  return await runTour(
    {
      seconds: flags.seconds,
      engines: flags.engines,
      seed: flags.seed,
      tracePath: flags.trace ?? null,
      isKept: flags.keep === true,
      listen: flags.listen,
      isNatsWanted: flags.nats,
      isEnvoyWanted: flags.envoy,
    },
    {
      clock: nodeClock,
      screen,
      env: process.env,
      cliEntry: fileURLToPath(new URL("../../bin/kvatlas.js", import.meta.url)),
      interrupted: interrupted.signal,
    },
  );
}

/** Aborts at the first SIGINT or SIGTERM; a later one ends the process, and so its children. */
function untilInterrupted(): AbortController {
  const interrupted = new AbortController();
  let firstMs = 0;
  const onSignal = (): void => {
    if (!interrupted.signal.aborted) {
      firstMs = nodeClock.nowMs();
      interrupted.abort();
    } else if (nodeClock.nowMs() - firstMs > SAME_SIGNAL_MS) process.exit(130);
  };
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, onSignal);
  return interrupted;
}
