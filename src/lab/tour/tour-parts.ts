/** Starts the parts of the tour in their order, watches them, and ends them in reverse. */
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, sleep } from "../../core/clock.ts";
import { KvError, messageOf } from "../../core/errors.ts";
import { type LabEngine, startLabEngine } from "../engine/engine.ts";
import { envoyRecipe } from "../file-envoy-recipe.ts";
import { BINARIES_FOLDER, type Environment, resolveBinary } from "../process-binaries.ts";
import type { RunningChild } from "../process-child.ts";
import { type RunningEnvoy, startEnvoy } from "../process-envoy.ts";
import { startNats } from "../process-nats.ts";
import { extProcSender, httpSender, type Sender } from "./http-senders.ts";
import { chooseListenAddress } from "./net-listen-address.ts";
import { type RunningRouter, startRouterProcess } from "./process-router.ts";
import { TOUR_ENGINE, type TourOptions } from "./tour-setup.ts";

const SUBSCRIBED_MS_MAX = 5000;
const POLL_MS = 20;

export interface PartsDeps {
  readonly clock: Clock;
  readonly env: Environment;
  /** The JavaScript file of the command line. */
  readonly cliEntry: string;
  readonly say: (line: string) => void;
  /** A part ended by itself: all is over. */
  readonly onFailure: (error: KvError) => void;
  /** Aborts the start between two parts. */
  readonly signal: AbortSignal;
}

export interface TourParts {
  readonly engines: readonly LabEngine[];
  readonly router: RunningRouter;
  /** Null: the built-in client stands in. */
  readonly envoy: RunningEnvoy | null;
  /** Takes the engines in turns, without the router. */
  readonly roundRobin: Sender;
  readonly routed: Sender;
  stop(): Promise<void>;
}

/** Thrown when the signal aborts the start. */
export class InterruptedError extends Error {}

export async function startParts(options: TourOptions, deps: PartsDeps): Promise<TourParts> {
  const starter = new Starter(deps);
  try {
    return await start(options, deps, starter);
  } catch (reason) {
    await starter.stop();
    throw reason;
  }
}

async function start(options: TourOptions, deps: PartsDeps, starter: Starter): Promise<TourParts> {
  const { clock, cliEntry } = deps;
  const folder = await starter.folder();
  const engines: LabEngine[] = [];
  for (let index = 0; index < options.engines; index++) {
    const engine = await startLabEngine(
      { ...TOUR_ENGINE, replayPort: 0, hashSeed: `pod-${index + 1}` },
      deps,
    );
    starter.onStop(() => engine.stop());
    engines.push(engine);
  }
  const natsBinary = await binaryOrNull("nats-server", options.isNatsWanted, deps);
  const nats =
    natsBinary === null
      ? null
      : await starter.child("nats-server", () =>
          startNats({ binary: natsBinary, storeFolder: join(folder, "nats"), clock }),
        );
  const router = await starter.child("kvatlas", () =>
    startRouterProcess({ folder, cliEntry, engines, natsAddress: nats?.address ?? null, clock }),
  );
  await subscribed(engines, deps);
  const envoyBinary = await binaryOrNull("envoy", options.isEnvoyWanted, deps);
  const envoy =
    envoyBinary === null
      ? null
      : await starter.child("Envoy", () =>
          startFront(envoyBinary, { options, engines, router, deps }),
        );
  const addresses = engines.map(({ address }) => address);
  const roundRobin = httpSender(
    envoy === null ? addresses : [envoy.roundRobinAddress ?? envoy.listenAddress],
  );
  const routed =
    envoy === null ? extProcSender(router.extProcAddress) : httpSender([envoy.listenAddress]);
  starter.onStop(() => roundRobin.close());
  starter.onStop(() => routed.close());
  return { engines, router, envoy, roundRobin, routed, stop: () => starter.stop() };
}

const REAL = {
  envoy: "stands in front and asks kvatlas over ext_proc where to send",
  "nats-server": "carries the KV events (JetStream)",
} as const;

const WITHOUT = {
  envoy: "the built-in client speaks ext_proc to kvatlas, and takes turns itself for round robin",
  "nats-server": "KV events go straight from the engines into the index (direct mode)",
} as const;

async function binaryOrNull(
  name: "envoy" | "nats-server",
  isWanted: boolean,
  { env, say }: PartsDeps,
): Promise<string | null> {
  const found = isWanted
    ? await resolveBinary(name, { env, folder: BINARIES_FOLDER })
    : { isFound: false as const, reason: "not wanted" };
  if (found.isFound) {
    say(`  ${name} ${found.version}: ${REAL[name]}.`);
    return found.path;
  }
  say(`  no ${name} (${found.reason}): ${WITHOUT[name]}.`);
  return null;
}

async function startFront(
  binary: string,
  front: {
    readonly options: TourOptions;
    readonly engines: readonly LabEngine[];
    readonly router: RunningRouter;
    readonly deps: PartsDeps;
  },
): Promise<RunningEnvoy> {
  const { options, engines, router, deps } = front;
  const { address, refusal } = await chooseListenAddress(options.listen);
  if (refusal !== null)
    deps.say(`${options.listen} cannot be had (${refusal}): a free port it is.`);
  return await startEnvoy({
    binary,
    clock: deps.clock,
    config: envoyRecipe({
      listenAddress: address,
      roundRobinListenAddress: "127.0.0.1:0",
      adminAddress: "127.0.0.1:0",
      extProcAddress: router.extProcAddress,
      endpoints: engines.map((engine) => engine.address),
    }),
  });
}

/** Until the router hears every engine: an event before that would be missed. */
async function subscribed(engines: readonly LabEngine[], deps: PartsDeps): Promise<void> {
  const endMs = deps.clock.nowMs() + SUBSCRIBED_MS_MAX;
  while (!engines.every((engine) => engine.subscriptions() > 0)) {
    if (deps.clock.nowMs() > endMs) {
      const message = `kvatlas did not subscribe to all engines within ${SUBSCRIBED_MS_MAX} ms`;
      throw new KvError("ERR_PROCESS_FAILED", message);
    }
    await sleep(deps.clock, POLL_MS, deps.signal);
    if (deps.signal.aborted) throw new InterruptedError();
  }
}

/** What has to be ended, and whether an end is expected. */
class Starter {
  readonly #deps: PartsDeps;
  readonly #stops: (() => Promise<void> | void)[] = [];
  #isStopping = false;

  constructor(deps: PartsDeps) {
    this.#deps = deps;
  }

  onStop(stop: () => Promise<void> | void): void {
    this.#stops.push(stop);
  }

  /** A temporary folder, removed at the end, even when this process is ended the hard way. */
  async folder(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), "kvatlas-tour-"));
    const remove = (): void => rmSync(folder, { recursive: true, force: true });
    process.once("exit", remove);
    this.onStop(() => {
      remove();
      process.off("exit", remove);
    });
    return folder;
  }

  async child<Child extends RunningChild>(
    name: string,
    start: () => Promise<Child>,
  ): Promise<Child> {
    if (this.#deps.signal.aborted) throw new InterruptedError();
    const child = await start().catch((reason: unknown) => {
      const message = `${name} could not be started: ${messageOf(reason)}`;
      throw new KvError("ERR_PROCESS_FAILED", message, { cause: reason });
    });
    this.onStop(() => child.stop());
    void child.exited.then(() => {
      if (this.#isStopping) return;
      const message = `${name} ended in the middle of the tour; its last output:`;
      this.#deps.onFailure(new KvError("ERR_PROCESS_FAILED", `${message}\n${child.outputTail()}`));
    });
    return child;
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const stop of this.#stops.splice(0).reverse()) await stop();
  }
}
