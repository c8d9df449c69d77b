/** Everything at once: lab engines, the real router, a real Envoy, and a nats-server if asked for. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nodeClock } from "../../src/core/node-clock.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import type { LabEngineOptions } from "../../src/lab/engine/engine-options.ts";
import { envoyRecipe } from "../../src/lab/file-envoy-recipe.ts";
import { type RunningEnvoy, startEnvoy } from "../../src/lab/process-envoy.ts";
import { type RunningNats, startNats } from "../../src/lab/process-nats.ts";
import { requireBinary } from "./binaries.ts";
import type { ProcessOptions, TestEndpoint } from "./kvatlas-process.ts";
import { RelayProcess } from "./relay-process.ts";
import { RouterProcess } from "./router-process.ts";
import { waitUntil } from "./wait-until.ts";

export interface StackOptions {
  readonly engines: number;
  readonly engine?: Partial<LabEngineOptions>;
  readonly withNats?: boolean;
  /** Engines' events go to NATS by a relay process; implies withNats. */
  readonly withRelay?: boolean;
  readonly config?: ProcessOptions["config"];
  /** Each has a connection of its own to the router. Default 1. */
  readonly envoyThreads?: number;
  /** Replaces where an endpoint's events come from, by its position. */
  readonly kvEvents?: ReadonlyMap<number, string>;
}

export interface CompletionAnswer {
  readonly status: number;
  /** Position of the engine that served it; -1 when none did. */
  readonly engine: number;
  readonly text: string;
}

export class Stack {
  readonly folder: string = mkdtempSync(join(tmpdir(), "kvatlas-test-"));
  readonly engines: LabEngine[] = [];
  #router: RouterProcess | null = null;
  #relay: RelayProcess | null = null;
  #envoy: RunningEnvoy | null = null;
  nats: RunningNats | null = null;

  static async start(options: StackOptions): Promise<Stack> {
    const stack = new Stack();
    try {
      await stack.#start(options);
    } catch (error) {
      await stack.stop();
      throw error;
    }
    return stack;
  }

  get router(): RouterProcess {
    if (this.#router === null) throw new Error("the router is not started");
    return this.#router;
  }

  get address(): string {
    return this.#envoy?.listenAddress ?? "";
  }

  async startNats(port?: number): Promise<RunningNats> {
    const { path } = await requireBinary("nats-server");
    const storeFolder = join(this.folder, "nats");
    const place = port === undefined ? {} : { port };
    this.nats = await startNats({ binary: path, storeFolder, clock: nodeClock, ...place });
    return this.nats;
  }

  async stop(): Promise<void> {
    await this.#envoy?.stop();
    await this.#router?.stop();
    await this.#relay?.stop();
    await this.nats?.stop();
    await Promise.all(this.engines.map((engine) => engine.stop()));
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Sends a completion through Envoy. */
  complete(tokens: readonly number[], extra: object = {}): Promise<CompletionAnswer> {
    return this.post(this.address, { model: "lab-8b", prompt: tokens, max_tokens: 2, ...extra });
  }

  async post(address: string, body: object | string): Promise<CompletionAnswer> {
    const before = this.engines.map((engine) => engine.stats().requests);
    const answer = await fetch(`http://${address}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    const text = await answer.text();
    const engine = this.engines.findIndex((e, i) => e.stats().requests > (before[i] ?? 0));
    return { status: answer.status, engine, text };
  }

  /** Makes one engine, and no other, hold the prompt's full blocks; waits until the index says so. */
  async seed(engine: number, tokens: readonly number[]): Promise<void> {
    const { address } = this.engines[engine] ?? { address: "" };
    const before = await this.#entries();
    const answer = await this.post(address, { model: "lab-8b", prompt: tokens, max_tokens: 1 });
    if (answer.status !== 200) throw new Error(`seeding failed: ${answer.text}`);
    const blocks = Math.floor(tokens.length / 16);
    await waitUntil(
      "the seeded blocks are in the index",
      async () => (await this.#entries()) >= before + blocks,
    );
  }

  /** Evicts the prompt at one engine, and waits until the index says so. */
  async evict(engine: number, tokens: readonly number[]): Promise<void> {
    // Counted by events: requests that run meanwhile go on storing blocks.
    const removed = (): Promise<number> =>
      this.router.metric("kvatlas_events_blocks_total", 'kind="removed"');
    const before = await removed();
    const blocks = Math.floor(tokens.length / 16);
    let evicted = 0;
    // An engine frees a request's blocks a step after its answer.
    await waitUntil("the blocks are evicted", () => {
      evicted += this.engines[engine]?.evictPrefix(Uint32Array.from(tokens)) ?? 0;
      return evicted >= blocks;
    });
    await waitUntil(
      "the evicted blocks left the index",
      async () => (await removed()) >= before + blocks,
    );
  }

  #entries(): Promise<number> {
    return this.router.metric("kvatlas_index_entries");
  }

  async #start(options: StackOptions): Promise<void> {
    const { engine = {}, config = {}, kvEvents = new Map() } = options;
    for (let number = 0; number < options.engines; number += 1) {
      this.engines.push(await startLabEngine(engine, { clock: nodeClock }));
    }
    let transport = {};
    if (options.withNats === true || options.withRelay === true) {
      const { address } = await this.startNats();
      const relay = options.withRelay === true ? "separate" : "in-router";
      transport = { events: { transport: "nats", relay, nats: { servers: [address] } } };
    }
    const endpoints: TestEndpoint[] = this.engines.map((e, position) => ({
      name: `pod-${position}`,
      address: e.address,
      kvEvents: {
        address: kvEvents.get(position) ?? e.kvEventsAddress,
        ...(e.replayAddress === null ? {} : { replay: e.replayAddress }),
      },
    }));
    const { folder } = this;
    if (options.withRelay === true) {
      this.#relay = await RelayProcess.start({ folder, endpoints, config: transport });
    }
    this.#router = await RouterProcess.start({
      folder,
      endpoints,
      config: { ...transport, ...config },
    });
    await waitUntil("the router reads every engine's events", () =>
      this.engines.every((e, i) => kvEvents.has(i) || e.subscriptions() > 0),
    );
    const { path } = await requireBinary("envoy");
    this.#envoy = await startEnvoy({
      binary: path,
      clock: nodeClock,
      concurrency: options.envoyThreads ?? 1,
      config: envoyRecipe({
        listenAddress: "127.0.0.1:0",
        adminAddress: "127.0.0.1:0",
        extProcAddress: this.router.extProcAddress,
        endpoints: this.engines.map((e) => e.address),
      }),
    });
  }
}

/** Distinct token ids for each `seed`, below the lab engine's vocabulary. */
export function promptOf(seed: number, tokens: number): number[] {
  return Array.from({ length: tokens }, (_, i) => (seed * 7919 + i * 31) % 128_000);
}
