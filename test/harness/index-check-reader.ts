/** A reader's thread of index-check.ts: asks while the table is written, then checks its answers. */
import { parentPort, workerData } from "node:worker_threads";
import { holderName } from "../../src/core/ids.ts";
import { seededRandom } from "../../src/core/random.ts";
import type { IndexReader } from "../../src/indexer/block-index.ts";
import { TableReader } from "../../src/indexer/table-reader.ts";
import {
  BEGUN,
  CHAIN,
  DONE,
  IS_OVER,
  OVERLAPPING,
  READY,
  type ReaderReport,
  type ReaderTask,
} from "./index-check.ts";
import { apply, historyChains, nextWrite } from "./index-history.ts";
import { MemoryIndex } from "./memory-index.ts";

/** Answers kept for the check; the writer is stopped by their number before that. */
const ANSWERS_MAX = 200_000;
const WRONG_MAX = 5;

interface Answer {
  /** Writes done before the question, and begun before the answer. */
  readonly from: number;
  readonly to: number;
  readonly keys: BigUint64Array;
  readonly text: string;
}

function ask({ handle, counters, readerSeed }: ReaderTask): [Answer[], number] {
  const counts = new Int32Array(counters);
  let abandoned = 0;
  const reader = new TableReader(handle, () => {
    abandoned += 1;
  });
  const random = seededRandom(readerSeed);
  const chains = historyChains();
  const answers: Answer[] = [];
  Atomics.add(counts, READY, 1);
  Atomics.notify(counts, READY);
  while (Atomics.load(counts, IS_OVER) === 0 && answers.length < ANSWERS_MAX) {
    const chain =
      random.next() < 0.7 ? Atomics.load(counts, CHAIN) : Math.floor(random.next() * chains.length);
    const whole = chains[chain] ?? new BigUint64Array();
    const keys = whole.subarray(0, 1 + Math.floor(random.next() * whole.length));
    const abandonedBefore = abandoned;
    const from = Atomics.load(counts, DONE);
    const prefix = reader.prefix(keys);
    const to = Atomics.load(counts, BEGUN);
    if (to > from) Atomics.add(counts, OVERLAPPING, 1);
    if (abandoned === abandonedBefore) answers.push({ from, to, keys, text: textOf(prefix) });
  }
  return [answers, abandoned];
}

/** Every answer has to be the plain index's after one of the writes that it may have seen. */
function check(answers: readonly Answer[], seed: number): string[] {
  const random = seededRandom(seed);
  const chains = historyChains();
  const plain = new MemoryIndex();
  const wrong: string[] = [];
  let writes = 0;
  let next = 0;
  let open: Answer[] = [];
  while (next < answers.length || open.length > 0) {
    while ((answers[next]?.from ?? Number.POSITIVE_INFINITY) <= writes) {
      const answer = answers[next];
      if (answer !== undefined) open.push(answer);
      next += 1;
    }
    const texts = new Map<string, string>();
    open = open.filter(({ keys, to, text, from }) => {
      const name = `${keys.byteOffset} ${keys.length} ${keys[0]} ${keys.at(-1)}`;
      const expected = texts.get(name) ?? textOf(plain.prefix(keys));
      texts.set(name, expected);
      if (expected === text) return false;
      if (to > writes) return true;
      if (wrong.length < WRONG_MAX) {
        wrong.push(`writes ${from} to ${to}: ${text}\n  expected at last: ${expected}`);
      }
      return false;
    });
    apply(plain, nextWrite(random, chains));
    writes += 1;
  }
  return wrong;
}

/** An answer as text, in the order of the holders' names. */
function textOf(prefix: ReturnType<IndexReader["prefix"]>): string {
  const matches = prefix.matches.map(
    ({ holder, blocks, gpuBlocks, blocksByTier: { gpu, cpu, nvme, shared } }) =>
      `${holderName(holder)}=${[blocks, gpuBlocks, gpu, cpu, nvme, shared].join(",")}`,
  );
  const reachable = prefix.reachable.map(({ holder, blocks }) => `${holderName(holder)}>${blocks}`);
  const { sharedBlocks, availableBlocks } = prefix;
  return [...matches.sort(), ...reachable.sort(), sharedBlocks, availableBlocks].join(" ");
}

const task: ReaderTask = workerData;
const [answers, abandoned] = ask(task);
const report: ReaderReport = {
  answers: answers.length,
  abandoned,
  wrong: check(answers, task.seed),
};
parentPort?.postMessage(report);
