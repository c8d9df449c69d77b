/** A router as a process of its own, for the rows of the edge. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startRouter } from "../src/app/serve.ts";
import { configSchema } from "../src/config/schema.ts";
import { silentLog } from "../src/core/log.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { seededRandom } from "../src/core/random.ts";
import { answerFigures } from "./edge-figures.ts";

export interface EdgeRouterOptions {
  /** Endpoints of the pool. Default: 64 that are never asked. */
  readonly endpoints?: readonly string[];
  /** Addresses of the engines that send events. */
  readonly feeds?: readonly string[];
  /** Folder of a tokenizer; without one, text is routed by load. */
  readonly tokenizerPath?: string;
  readonly isLagWatched?: boolean;
  /** See extProc.workers. Default 0. */
  readonly workers?: number;
}

export interface EdgeRouterReady {
  readonly edge: string;
  readonly admin: string;
}

const ENDPOINTS = Array.from({ length: 64 }, (_, n) => `10.0.0.${n}:8000`);

const options: EdgeRouterOptions = JSON.parse(process.argv[2] ?? "{}");
const folder = mkdtempSync(join(tmpdir(), "kvatlas-edge-"));
const endpointsFile = join(folder, "endpoints.yaml");
const endpoints = (options.endpoints ?? ENDPOINTS).map((address, n) => {
  const feed = options.feeds?.[n];
  const place = { name: `pod-${n}`, address, metrics: "off" };
  return feed === undefined ? place : { ...place, kvEvents: { address: feed } };
});
// JSON is YAML.
writeFileSync(endpointsFile, JSON.stringify({ endpoints }));
const any = "127.0.0.1:0";
const { tokenizerPath } = options;
const config = configSchema.parse({
  model: "bench",
  fleet: { endpointsFile },
  index: { path: join(folder, "store") },
  prompt: tokenizerPath === undefined ? { tokenize: "off" } : { tokenize: "local", tokenizerPath },
  extProc: {
    workers: options.workers ?? 0,
    listen: any,
    healthListen: any,
    drainMs: 0,
    drainNoticeMs: 0,
  },
  query: { listen: null },
  observe: { adminListen: any, logLevel: "error" },
});
const ports = { clock: nodeClock, random: seededRandom(1), log: silentLog };
const router = await startRouter(config, { ...ports, version: "bench" });
answerFigures({ isLagWatched: options.isLagWatched === true, openStreams: () => 0 });
const ready: EdgeRouterReady = { edge: router.extProcAddress, admin: router.adminAddress };
process.send?.(ready);
process.once("disconnect", () => {
  void router.abandon().finally(() => {
    rmSync(folder, { recursive: true, force: true });
    process.exit(0);
  });
});
