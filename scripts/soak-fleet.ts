/**
 * A fleet of engines for the soak, as a process of its own: real sockets, real bytes, caches that are
 * always full, so that every block that is stored evicts another.
 *
 * Started by soak.ts; sends the addresses of its engines to it, and ends with it.
 */
import { encode } from "@msgpack/msgpack";
import { Publisher } from "zeromq";
import { seededRandom } from "../src/core/random.ts";
import { BLOCK_TOKENS, conversationTokens, type FleetOptions } from "./soak-workload.ts";

const TURN_MS = 10;
const TURN_BLOCKS_MAX = 4096;
const EVENT_BLOCKS_MAX = 64;

class SoakEngine {
  readonly #socket = new Publisher({ linger: 0, sendHighWaterMark: 100_000 });
  readonly #blocksMax: number;
  /** Handles, the least recently used first. */
  readonly #blocks = new Set<bigint>();
  #seq = 0n;

  constructor(blocksMax: number) {
    this.#blocksMax = blocksMax;
  }

  async start(): Promise<string> {
    await this.#socket.bind("tcp://127.0.0.1:*");
    return this.#socket.lastEndpoint ?? "";
  }

  /** Serves a prompt; returns the blocks that it stored. */
  async serve(conversation: number, blocks: number): Promise<number> {
    const handles = Array.from({ length: blocks }, (_, at) => handleOf(conversation, at));
    const events: unknown[] = [];
    let stored = 0;
    for (let at = 0; at < blocks; ) {
      const end = this.#missingEnd(handles, at);
      if (end > at) events.push(storedEvent({ conversation, handles, from: at, to: end }));
      stored += end - at;
      at = Math.max(end, at + 1);
    }
    // Last block first: engines evict a prefix from its end.
    for (const handle of handles.toReversed()) {
      this.#blocks.delete(handle);
      this.#blocks.add(handle);
    }
    const evicted: bigint[] = [];
    for (const handle of this.#blocks) {
      if (this.#blocks.size <= this.#blocksMax) break;
      this.#blocks.delete(handle);
      evicted.push(handle);
    }
    if (evicted.length > 0) events.push(["BlockRemoved", evicted, "GPU"]);
    if (events.length > 0) await this.#publish(events);
    return stored;
  }

  /** End of the run of missing blocks that begins at `at`. */
  #missingEnd(handles: readonly bigint[], at: number): number {
    let end = at;
    while (end < handles.length && end - at < EVENT_BLOCKS_MAX) {
      if (this.#blocks.has(handles[end] ?? 0n)) break;
      end += 1;
    }
    return end;
  }

  async #publish(events: readonly unknown[]): Promise<void> {
    const seq = Buffer.alloc(8);
    seq.writeBigUInt64BE(this.#seq);
    this.#seq += 1n;
    const payload = encode([Date.now() / 1000, events, 0], { useBigInt64: true });
    await this.#socket.send(["", seq, payload]);
  }
}

interface StoredRun {
  readonly conversation: number;
  readonly handles: readonly bigint[];
  readonly from: number;
  readonly to: number;
}

function storedEvent({ conversation, handles, from, to }: StoredRun): unknown {
  const tokens = conversationTokens(conversation, to).slice(from * BLOCK_TOKENS);
  const parent = from === 0 ? null : handles[from - 1];
  // As vLLM from 0.17: adapter and extra keys are told, and there are none.
  const run = handles.slice(from, to);
  const told = [null, "GPU", null, run.map(() => null)];
  return ["BlockStored", run, parent, [...tokens], BLOCK_TOKENS, ...told];
}

/** Beyond 2^53, as engines' are. */
function handleOf(conversation: number, block: number): bigint {
  return (BigInt(conversation) << 20n) + BigInt(block) + (0xabcdn << 48n);
}

const { engines, blocksPerEngine, blocksPerSecond, conversations, seed }: FleetOptions = JSON.parse(
  process.argv[2] ?? "{}",
);
const random = seededRandom(seed);
const fleet = Array.from({ length: engines }, () => new SoakEngine(blocksPerEngine));
const addresses = await Promise.all(fleet.map((engine) => engine.start()));
process.send?.({ addresses });
process.once("disconnect", () => process.exit(0));
await new Promise((resolve) => process.once("message", resolve));

let owed = 0;
let newest = conversations;
for (let last = performance.now(); ; ) {
  const now = performance.now();
  owed = Math.min(TURN_BLOCKS_MAX, owed + ((now - last) * blocksPerSecond) / 1000);
  last = now;
  while (owed > 0) {
    // Most requests go on with a conversation of late; some begin one that nobody has had.
    const isNew = random.next() < 0.2;
    if (isNew) newest += 1;
    const age = isNew ? 0 : Math.floor(random.next() ** 2 * conversations);
    const blocks = 8 + Math.floor(random.next() * 56);
    const engine = fleet[Math.floor(random.next() * fleet.length)];
    owed -= Math.max(1, (await engine?.serve(newest - age, blocks)) ?? 0);
  }
  await new Promise((resolve) => setTimeout(resolve, TURN_MS));
}
