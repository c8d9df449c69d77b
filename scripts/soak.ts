/**
 * `npm run soak -- [--minutes N] [--warm-up N] [--rate BLOCKS_PER_SECOND] [--out FILE]`: does memory
 * stay flat?
 *
 * The write path of a router reads real sockets of a fleet whose caches are full: every block that is
 * stored evicts another, the store is written, and prompts are matched meanwhile. Memory is taken
 * after a collection every few seconds; the slope of what comes after the warm-up, the first third of
 * the run unless it is said, is the result. Exit code 1: something grows by SLOPE_MB_PER_HOUR_MAX or
 * more. SIGINT and SIGTERM end the run with the result so far.
 *
 * V8 doubles the room of young objects when the machine stalls, up to 32 MB: `npm run soak` starts with
 * all of it, so that this is not taken for growth.
 */
import { fork } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { WriteCore } from "../src/app/write-core.ts";
import { configSchema } from "../src/config/schema.ts";
import { endpointId } from "../src/core/ids.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import type { EventSource } from "../src/events/ingest.ts";
import { EvictionBoard } from "../src/indexer/eviction-board.ts";
import { createBlockHasher } from "../src/keys/block-hasher.ts";
import { pinoLog } from "../src/observe/pino-log.ts";
import { PromMeter } from "../src/observe/prom-meter.ts";
import { BLOCK_TOKENS, conversationTokens, type FleetOptions } from "./soak-workload.ts";

const SLOPE_MB_PER_HOUR_MAX = 1;
const SAMPLE_MS = 5000;
const QUERY_MS = 20;
const MODEL = "soak";
const MB = 1_000_000;

/**
 * - used: heap, external and shared together: what the program holds
 * - rss: resident memory without pages of files, which the store maps; also what allocators keep, and
 *   the store's thread
 * - heap: JavaScript objects of the thread of the write path
 * - external: its buffers, the tables of the residency and of the handles among them
 * - shared: the index's table
 * - tables: the residency
 */
const SERIES = ["used", "rss", "heap", "external", "shared", "tables"] as const;

/** Means that the slope is fitted to: what rises and falls within minutes is not taken for its error. */
const BINS = 12;

interface Sample {
  readonly hours: number;
  /** MB */
  readonly series: Readonly<Record<(typeof SERIES)[number], number>>;
  readonly stored: number;
  readonly removed: number;
  readonly blocks: number;
}

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    "warm-up": { type: "string" },
    rate: { type: "string", default: "20000" },
    out: { type: "string" },
  },
});
const minutes = Number(values.minutes);
const warmUpMinutes = Number(values["warm-up"] ?? minutes / 3);
const fleetOptions: FleetOptions = {
  ...{ engines: 8, blocksPerEngine: 25_000, conversations: 8000, seed: 1 },
  blocksPerSecond: Number(values.rate),
};
setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");
const folder = mkdtempSync(join(tmpdir(), "kvatlas-soak-"));
const ended = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => ended.abort());

const fleet = fork(new URL("./soak-fleet.ts", import.meta.url), [JSON.stringify(fleetOptions)]);
fleet.once("exit", (code, signal) => {
  if (!ended.signal.aborted) process.stdout.write(`the fleet ended: ${signal ?? code}\n`);
  ended.abort();
});
const addresses = await new Promise<readonly string[]>((resolve) =>
  fleet.once("message", (message: { readonly addresses: readonly string[] }) =>
    resolve(message.addresses),
  ),
);
const meter = new PromMeter();
const core = await WriteCore.start(
  configSchema.parse({ model: MODEL, index: { path: join(folder, "store") } }),
  {
    ...{ clock: nodeClock, meter, evictions: new EvictionBoard() },
    log: pinoLog({ level: "warn", to: "stderr" }),
  },
);
core.events.reconcile(
  addresses.map((address, number): EventSource => {
    const holder = { endpointId: endpointId(`10.0.0.${number}:8000`), rank: 0 };
    return { holder, model: MODEL, address, replayAddress: null, topic: "" };
  }),
);
// Subscriptions need a moment; what is lost before them would only degrade the holders.
await wait(1000);
fleet.send("go");

/** A row of numbers each, and room for all: samples kept as objects would be growth by themselves. */
const COLUMNS = ["hours", ...SERIES, "stored", "removed"] as const;
const table = new Float64Array(COLUMNS.length * (Math.ceil((minutes * 60_000) / SAMPLE_MS) + 1));
let rows = 0;
const beganMs = nodeClock.nowMs();
const endMs = beganMs + minutes * 60_000;
const querying = query();
if (values.out !== undefined) writeFileSync(values.out, "");
while (!ended.signal.aborted && nodeClock.nowMs() < endMs) {
  await wait(Math.min(SAMPLE_MS, endMs - nodeClock.nowMs()));
  const sample = await take();
  const { hours, series, stored, removed } = sample;
  const numbers = [hours, ...SERIES.map((name) => series[name]), stored, removed];
  table.set(numbers, rows * COLUMNS.length);
  rows += 1;
  if (values.out !== undefined) appendFileSync(values.out, `${JSON.stringify(sample)}\n`);
  if (rows % 12 === 1) print(sample);
}
ended.abort();
await querying;
fleet.kill();
await core.stop();
rmSync(folder, { recursive: true, force: true });
process.exit(report());

/** Matches prompts as decisions do. */
async function query(): Promise<void> {
  const hasher = await createBlockHasher(0);
  const parent = hasher.rootKey({ model: MODEL, lora: null, blockSizeTokens: BLOCK_TOKENS });
  for (let conversation = fleetOptions.conversations; !ended.signal.aborted; conversation += 1) {
    const tokens = conversationTokens(conversation, 64);
    core.index.match(hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK_TOKENS }));
    await wait(QUERY_MS);
  }
}

async function take(): Promise<Sample> {
  // What the first collection found dead is freed by finalizers and a sweeper; the second waits for it.
  collect();
  await new Promise((resolve) => setImmediate(resolve));
  collect();
  const { heapUsed, external } = process.memoryUsage();
  const text = (await meter.text()).body;
  const counted = (kind: string): number => {
    const line = new RegExp(`^kvatlas_events_blocks_total\\{kind="${kind}"\\} (\\d+)$`, "m");
    return Number(line.exec(text)?.[1] ?? 0);
  };
  const shared = core.index.byteLength;
  return {
    hours: (nodeClock.nowMs() - beganMs) / 3_600_000,
    series: {
      ...{ used: (heapUsed + external + shared) / MB, rss: anonymousBytes() / MB },
      ...{ heap: heapUsed / MB, external: external / MB, shared: shared / MB },
      tables: core.holders.byteLength / MB,
    },
    ...{ stored: counted("stored"), removed: counted("removed") },
    blocks: core.index.stats().blocks,
  };
}

/** Resident memory without that of files, where the system tells. */
function anonymousBytes(): number {
  if (process.platform !== "linux") return process.memoryUsage.rss();
  const kib = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  return Number(kib) * 1024;
}

function print({ hours, series, stored, removed, blocks }: Sample): void {
  const sizes = Object.entries(series).map(([name, mb]) => `${name} ${mb.toFixed(2)} MB`);
  const counts = `stored ${stored}, removed ${removed}, ${blocks} distinct`;
  process.stdout.write(`${(hours * 60).toFixed(1)} min: ${sizes.join(", ")}; ${counts}\n`);
}

/** Exit code. */
function report(): number {
  const hours = column("hours");
  const from = hours.findIndex((each) => 60 * each >= warmUpMinutes);
  const settled = (name: (typeof COLUMNS)[number]): Float64Array =>
    from < 0 ? new Float64Array(0) : column(name).subarray(from);
  const times = settled("hours");
  if (times.length < 2 * BINS) {
    process.stdout.write("too short for a result\n");
    return 1;
  }
  const last = (of: Float64Array): number => of[of.length - 1] ?? 0;
  const grown = (of: Float64Array): number => last(of) - (of[0] ?? 0);
  const span = `${times.length} samples from ${(60 * (times[0] ?? 0)).toFixed(1)} to ${(60 * last(times)).toFixed(1)} min`;
  const churn = `${grown(settled("stored"))} blocks stored, ${grown(settled("removed"))} removed`;
  process.stdout.write(`${span}: ${churn}\n`);
  let isFlat = true;
  for (const name of SERIES) {
    const sizes = settled(name);
    const { slope, error } = slopeOf(binned(times), binned(sizes));
    isFlat &&= slope < SLOPE_MB_PER_HOUR_MAX;
    process.stdout.write(
      `${name}: ${slope.toFixed(2)} MB/h (standard error ${error.toFixed(2)}), mean ${mean(sizes).toFixed(1)} MB\n`,
    );
  }
  process.stdout.write(isFlat ? "flat\n" : `grows by ${SLOPE_MB_PER_HOUR_MAX} MB/h or more\n`);
  return isFlat ? 0 : 1;
}

function column(name: (typeof COLUMNS)[number]): Float64Array {
  const at = COLUMNS.indexOf(name);
  return Float64Array.from({ length: rows }, (_, row) => table[row * COLUMNS.length + at] ?? 0);
}

function mean(of: Float64Array): number {
  return of.reduce((sum, value) => sum + value, 0) / of.length;
}

/** Means of as many equal parts; what is left over at the beginning is left out. */
function binned(of: Float64Array): Float64Array {
  const length = Math.floor(of.length / BINS);
  const first = of.length - length * BINS;
  return Float64Array.from({ length: BINS }, (_, bin) =>
    mean(of.subarray(first + bin * length, first + (bin + 1) * length)),
  );
}

/** Least squares. */
function slopeOf(
  hours: Float64Array,
  sizes: Float64Array,
): { readonly slope: number; readonly error: number } {
  const [meanX, meanY] = [mean(hours), mean(sizes)];
  const deviation = sizes.map((size) => size - meanY);
  const sumXX = hours.reduce((sum, x) => sum + (x - meanX) ** 2, 0);
  const slope = hours.reduce((sum, x, at) => sum + (x - meanX) * (deviation[at] ?? 0), 0) / sumXX;
  const rest = hours.reduce(
    (sum, x, at) => sum + ((deviation[at] ?? 0) - slope * (x - meanX)) ** 2,
    0,
  );
  return { slope, error: Math.sqrt(rest / (hours.length - 2) / sumXX) };
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => nodeClock.after(Math.max(0, ms), resolve));
}
