/**
 * A thread that owns an index and stores and removes a million blocks a second in it, in events of 32:
 * new chains of 64 endpoints, the oldest removed, and now and then blocks of the prompt asked for.
 */
import { parentPort, workerData } from "node:worker_threads";
import { nodeClock } from "../src/core/node-clock.ts";
import { HotIndex } from "../src/indexer/hot-index.ts";
import { holderOf } from "./workload.ts";

const PIECE_BLOCKS = 32;
/** Events after which the oldest chain of the endpoint is removed again. */
const HELD_EVENTS = 19_968;
const BLOCKS_PER_MS = 1000;
/** One event of so many concerns the prompt. */
const PROMPT_EVENTS = 64;
const SLICE_MS = 0.2;

const prompt: BigUint64Array = workerData;
const index = new HotIndex();
const sleeper = new Int32Array(new SharedArrayBuffer(4));

for (let holder = 1; holder <= 8; holder += 1) {
  index.storeMany(
    holderOf((holder - 1) * 8),
    "gpu",
    prompt.subarray(0, (prompt.length * holder) / 8),
  );
}

/** The blocks of event number `event`. */
function piece(event: number): BigUint64Array {
  const keys = new BigUint64Array(PIECE_BLOCKS);
  for (let at = 0; at < PIECE_BLOCKS; at += 1) {
    keys[at] = BigInt.asUintN(64, BigInt(event * PIECE_BLOCKS + at + 1) * 0x9e37_79b9_7f4a_7c15n);
  }
  return keys;
}

const held: BigUint64Array[] = [];
let events = 0;

function ingest(): void {
  const holder = holderOf(events % 64);
  if (events % PROMPT_EVENTS === 0) {
    const start = (events * PIECE_BLOCKS) % prompt.length;
    const write = events % (2 * PROMPT_EVENTS) === 0 ? "storeMany" : "removeMany";
    index[write](holderOf(63), "cpu", prompt.subarray(start, start + PIECE_BLOCKS));
  } else {
    const slot = events % HELD_EVENTS;
    const oldest = held[slot];
    // As many removed as stored, by the endpoint that stored them: HELD_EVENTS is a multiple of 64.
    if (oldest !== undefined) index.removeMany(holder, "gpu", oldest);
    held[slot] = piece(events);
    index.storeMany(holder, "gpu", held[slot]);
  }
  events += 1;
}

let isStopped = false;
parentPort?.once("message", () => {
  isStopped = true;
});
parentPort?.postMessage(index.share());
const startMs = nodeClock.nowMs();
while (!isStopped) {
  const dueEvents = ((nodeClock.nowMs() - startMs) * BLOCKS_PER_MS) / PIECE_BLOCKS;
  // Far behind, it does not catch up in one go.
  for (let slice = 0; slice < 32 && events < dueEvents; slice += 1) ingest();
  if (events >= dueEvents) Atomics.wait(sleeper, 0, 0, SLICE_MS);
  await new Promise(setImmediate);
}
parentPort?.postMessage((1000 * events * PIECE_BLOCKS) / (nodeClock.nowMs() - startMs));
