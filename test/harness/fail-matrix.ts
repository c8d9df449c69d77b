/**
 * What a client sees while the router fails: the recipes of deploy/envoy/ in one real Envoy, each
 * before routers that fail in every way, and a pool of real HTTP servers behind.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "../../src/core/clock.ts";
import { endpointId } from "../../src/core/ids.ts";
import { silentLog } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { seededRandom } from "../../src/core/random.ts";
import { extProcConfigSchema } from "../../src/extproc/config.ts";
import { type ExtProcServer, startExtProcServer } from "../../src/extproc/grpc-ext-proc.ts";
import type { Picker, PickOutcome } from "../../src/extproc/picker.ts";
import {
  ENVOY_RECIPES,
  type EnvoyConfig,
  type EnvoyRecipe,
  envoyRecipe,
} from "../../src/lab/file-envoy-recipe.ts";
import { type RunningEnvoy, startEnvoy } from "../../src/lab/process-envoy.ts";
import { requireBinary } from "./binaries.ts";
import { type FaultyRouter, type RouterFault, startFaultyRouter } from "./faulty-router.ts";
import { send, type TestResponse } from "./http-client.ts";
import { recordingMeter } from "./recording-meter.ts";
import { RouterProcess } from "./router-process.ts";
import { startUpstream, type TestUpstream } from "./test-upstream.ts";
import { waitUntil } from "./wait-until.ts";

/** The kinds of request, by their body in bytes. */
export const REQUESTS = { GET: 0, "1 KB": 1024, "2 MB": 2_097_152 } as const;
export type RequestKind = keyof typeof REQUESTS;
const REQUEST_KINDS: readonly RequestKind[] = ["GET", "1 KB", "2 MB"];

/** Time that the slow router takes; Envoy gives it more. */
const SLOW_MS = 1000;
/** In place of the recipes' 25 s and 600 s, before the silent router alone. */
const SILENT_TIMERS = { message_timeout: "1s", stream_idle_timeout: "2s" };
/** Nobody listens there. */
const NOWHERE = "127.0.0.1:1";
/** A router that is down, and Envoy does not know it: its health check is left out. */
const UNSEEN = "down-unseen";
const HEALTH_LIMIT_MS = 15_000;

const FAULTS: readonly RouterFault[] = ["reset", "garbage", "out-of-order", "silent"];

/** What one recipe does with each kind of request. */
export type Outcomes = Readonly<Record<RequestKind, string>>;

export class FailMatrix {
  readonly #folder = mkdtempSync(join(tmpdir(), "kvatlas-fail-"));
  readonly #upstreams: TestUpstream[] = [];
  readonly #servers: ExtProcServer[] = [];
  readonly #faulty: FaultyRouter[] = [];
  readonly #processes = new Map<string, RouterProcess>();
  #envoy: RunningEnvoy | null = null;

  static async start(): Promise<FailMatrix> {
    const matrix = new FailMatrix();
    try {
      await matrix.#start();
    } catch (error) {
      await matrix.stop();
      throw error;
    }
    return matrix;
  }

  /** Sends every kind of request through every recipe at once, before one router. */
  async outcomes(router: string): Promise<ReadonlyMap<EnvoyRecipe, Outcomes>> {
    const rows = ENVOY_RECIPES.map(async (recipe) => {
      const cells = REQUEST_KINDS.map(async (kind) => [
        kind,
        await this.#ask(router, recipe, kind),
      ]);
      return [recipe, Object.fromEntries(await Promise.all(cells)) as Outcomes] as const;
    });
    return new Map(await Promise.all(rows));
  }

  /**
   * Kills the router while answers stream through every recipe. The result resolves at once, `ends`
   * when it is known what of each answer arrived.
   */
  async killInAnswer(router: string): Promise<{ ends: Promise<ReadonlyMap<EnvoyRecipe, string>> }> {
    const started: Promise<void>[] = [];
    const answers = ENVOY_RECIPES.map(async (recipe) => {
      const outcome = await new Promise<string>((resolve) => {
        started.push(
          new Promise((onStart) => {
            const address = this.#address(router, recipe);
            void send({ address, path: "/sse", body: "{}", onPiece: onStart }).then(
              (answer) => resolve(answer.body.includes("[DONE]") ? "whole" : "cut"),
              () => resolve("cut"),
            );
          }),
        );
      });
      return [recipe, outcome] as const;
    });
    await Promise.all(started);
    await this.kill(router);
    return { ends: Promise.all(answers).then((rows) => new Map(rows)) };
  }

  freeze(router: string): void {
    this.#processes.get(router)?.freeze();
  }

  async kill(router: string): Promise<void> {
    await this.#processes.get(router)?.killHard();
  }

  /** Waits until Envoy's health checks say so. */
  async untilHealth(router: string, isHealthy: boolean): Promise<void> {
    const flag = `${clusterOf(router)}::[\\d.:]+::health_flags::`;
    const pattern = new RegExp(`^${flag}${isHealthy ? "healthy" : ".*failed_active_hc"}`, "m");
    const address = this.#envoy?.adminAddress ?? "";
    await waitUntil(
      `the health of ${router}`,
      async () => pattern.test((await send({ address, path: "/clusters" })).body.toString()),
      HEALTH_LIMIT_MS,
    );
  }

  async stop(): Promise<void> {
    await this.#envoy?.stop();
    await Promise.all([...this.#processes.values()].map((process) => process.killHard()));
    await Promise.all(this.#servers.map((server) => server.stop()));
    await Promise.all(this.#faulty.map((router) => router.close()));
    await Promise.all(this.#upstreams.map((upstream) => upstream.close()));
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #start(): Promise<void> {
    for (let count = 0; count < 3; count += 1) this.#upstreams.push(await startUpstream());
    const live = this.#upstreams.map((upstream) => upstream.address);
    const routers = new Map<string, string>();
    routers.set("slow", await this.#startPicker(live[1] ?? "", SLOW_MS));
    routers.set(UNSEEN, NOWHERE);
    routers.set("dead-endpoint", await this.#startPicker(NOWHERE, 0));
    for (const fault of FAULTS) {
      const router = await startFaultyRouter(fault);
      this.#faulty.push(router);
      routers.set(fault, router.address);
    }
    for (const name of ["down", "hung"]) {
      routers.set(name, (await this.#startProcess(name, live)).extProcAddress);
    }
    const { path } = await requireBinary("envoy");
    this.#envoy = await startEnvoy({
      binary: path,
      clock: nodeClock,
      config: manyFronts(routers, live),
    });
    await Promise.all([...routers.keys()].map((router) => this.untilHealth(router, true)));
  }

  async #startPicker(endpoint: string, delayMs: number): Promise<string> {
    const route: PickOutcome = { kind: "route", endpointId: endpointId(endpoint) };
    const picker: Picker = {
      pick: async (_request, signal) => {
        await sleep(nodeClock, delayMs, signal);
        return route;
      },
      pickByLoad: () => route,
      responseStarted: () => {},
      firstByte: () => {},
      progressed: () => {},
      ended: () => {},
    };
    const config = extProcConfigSchema.parse({
      listen: "127.0.0.1:0",
      healthListen: "127.0.0.1:0",
      deadlineMs: 2 * SLOW_MS,
    });
    const random = seededRandom(1);
    const deps = { picker, clock: nodeClock, random, log: silentLog, meter: recordingMeter() };
    const server = await startExtProcServer(config, deps);
    this.#servers.push(server);
    return server.address;
  }

  async #startProcess(name: string, live: readonly string[]): Promise<RouterProcess> {
    const folder = join(this.#folder, name);
    mkdirSync(folder);
    const endpoints = live.map((address, position) => ({ name: `pod-${position}`, address }));
    const router = await RouterProcess.start({ folder, endpoints });
    this.#processes.set(name, router);
    return router;
  }

  #address(router: string, recipe: EnvoyRecipe): string {
    return this.#envoy?.listeners.get(listenerOf(router, recipe)) ?? "";
  }

  async #ask(router: string, recipe: EnvoyRecipe, kind: RequestKind): Promise<string> {
    const address = this.#address(router, recipe);
    const bytes = REQUESTS[kind];
    // Every piece of it differs, so that a lost or doubled one is seen.
    const body =
      bytes === 0
        ? undefined
        : Buffer.from(Uint32Array.from({ length: bytes / 4 }, (_, i) => i).buffer);
    try {
      const answer = await send({
        address,
        path: "/echo",
        ...(body === undefined ? {} : { body }),
      });
      return describeAnswer(answer, body ?? Buffer.alloc(0));
    } catch {
      return "connection closed";
    }
  }
}

function describeAnswer(answer: TestResponse, body: Buffer): string {
  if (answer.status !== 200) return String(answer.status);
  const chosen = answer.headers["x-chosen"];
  const isChosen = chosen === answer.headers["x-served-by"];
  const way = chosen === "" ? "rotation" : isChosen ? "choice" : "another endpoint";
  return `200, ${way}${answer.body.equals(body) ? "" : ", BODY DIFFERS"}`;
}

/** One Envoy: a listener for each router and recipe, and two clusters for each router. */
function manyFronts(routers: ReadonlyMap<string, string>, live: readonly string[]): EnvoyConfig {
  const fronts = [...routers].flatMap(([router, extProcAddress]) =>
    ENVOY_RECIPES.map((recipe) => {
      const config = envoyRecipe({
        recipe,
        listenAddress: "127.0.0.1:0",
        adminAddress: "127.0.0.1:0",
        extProcAddress,
        endpoints: router === "dead-endpoint" ? [...live, NOWHERE] : live,
      });
      return renamed(config, router, recipe);
    }),
  );
  const [first] = fronts;
  if (first === undefined) throw new Error("no fronts");
  const clusters = fronts.flatMap((front) => front.static_resources.clusters);
  return {
    ...first,
    static_resources: {
      listeners: fronts.flatMap((front) => front.static_resources.listeners),
      clusters: [...new Map(clusters.map((cluster) => [cluster.name, cluster])).values()],
    },
  };
}

const CLUSTER_KEYS: ReadonlySet<string> = new Set(["name", "cluster", "cluster_name"]);

function renamed(config: EnvoyConfig, router: string, recipe: EnvoyRecipe): EnvoyConfig {
  const text = JSON.stringify(config, (key, value) => {
    if (value === "ext_proc" && CLUSTER_KEYS.has(key)) return clusterOf(router);
    if (value === "pool" && CLUSTER_KEYS.has(key)) return `pool_${router}`;
    if (key === "name" && value === "kvatlas") return listenerOf(router, recipe);
    if (router === UNSEEN && key === "health_checks") return undefined;
    return router === "silent" && Object.hasOwn(SILENT_TIMERS, key)
      ? SILENT_TIMERS[key as keyof typeof SILENT_TIMERS]
      : value;
  });
  return JSON.parse(text) as EnvoyConfig;
}

function clusterOf(router: string): string {
  return `ext_proc_${router}`;
}

function listenerOf(router: string, recipe: EnvoyRecipe): string {
  return `${router}/${recipe}`;
}
