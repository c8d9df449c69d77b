/**
 * Checks readers of the hot table against its writer, in threads of their own: every answer has to be
 * the plain index's at one moment between the call's beginning and its end.
 *
 * The writer counts each write before and after it; a reader reads the counts around its question.
 * When the writing is over, each reader repeats the history on the plain index and looks for every
 * one of its answers among the moments at which it may have been given.
 */
import { Worker } from "node:worker_threads";
import { seededRandom } from "../../src/core/random.ts";
import { HotIndex } from "../../src/indexer/hot-index.ts";
import type { TableHandle } from "../../src/indexer/table-memory.ts";
import { apply, historyChains, nextWrite } from "./index-history.ts";

/** Counters in memory that all threads share. */
export const BEGUN = 0;
export const DONE = 1;
/** Chain of the latest write: readers mostly ask for it. */
export const CHAIN = 2;
/** Answers during which the table was written. */
export const OVERLAPPING = 3;
export const READY = 4;
export const IS_OVER = 5;
const COUNTERS = 6;

export interface ReaderTask {
  readonly handle: TableHandle;
  readonly counters: SharedArrayBuffer;
  readonly seed: number;
  readonly readerSeed: number;
}

export interface ReaderReport {
  readonly answers: number;
  readonly abandoned: number;
  /** What was answered, between which writes, and what the plain index says there. */
  readonly wrong: readonly string[];
}

export interface CheckOptions {
  readonly seed: number;
  readonly readers: number;
  /** Goes on until so many answers have met a write and so many writes are done, or `writesMax`. */
  readonly overlappingMin: number;
  readonly writesMin: number;
  readonly writesMax: number;
  /** Leaves out every so manieth write: a checker that finds nothing then is broken. */
  readonly omitEvery?: number;
}

export interface CheckReport extends ReaderReport {
  readonly writes: number;
  readonly overlapping: number;
}

export async function checkIndex(options: CheckOptions): Promise<CheckReport> {
  const index = new HotIndex(200_000);
  const counters = new SharedArrayBuffer(4 * COUNTERS);
  const counts = new Int32Array(counters);
  const reports = Array.from({ length: options.readers }, (_, reader) => {
    const readerSeed = options.seed * 1000 + reader + 1;
    return reportOf({ handle: index.share(), counters, seed: options.seed, readerSeed });
  });
  for (let ready = 0; ready < options.readers; ready = Atomics.load(counts, READY)) {
    // Threads start while this one waits for them.
    Atomics.wait(counts, READY, ready, 1000);
  }
  const random = seededRandom(options.seed);
  const chains = historyChains();
  let writes = 0;
  const { overlappingMin, writesMin, writesMax } = options;
  const isEnough = (): boolean =>
    writes >= writesMin && Atomics.load(counts, OVERLAPPING) >= overlappingMin;
  while (writes < writesMax && !isEnough()) {
    const write = nextWrite(random, chains);
    writes += 1;
    Atomics.store(counts, CHAIN, write.chain);
    Atomics.store(counts, BEGUN, writes);
    const isOmitted = options.omitEvery !== undefined && writes % options.omitEvery === 0;
    if (!isOmitted) apply(index, write);
    Atomics.store(counts, DONE, writes);
  }
  const overlapping = Atomics.load(counts, OVERLAPPING);
  Atomics.store(counts, IS_OVER, 1);
  const all = await Promise.all(reports);
  return {
    writes,
    overlapping,
    answers: all.reduce((sum, { answers }) => sum + answers, 0),
    abandoned: all.reduce((sum, { abandoned }) => sum + abandoned, 0),
    wrong: all.flatMap(({ wrong }) => wrong),
  };
}

function reportOf(task: ReaderTask): Promise<ReaderReport> {
  return new Promise((resolve, reject) => {
    const file = new URL("./index-check-reader.ts", import.meta.url);
    const worker = new Worker(file, { workerData: task });
    worker.once("message", resolve);
    worker.once("error", reject);
  });
}
