/**
 * Wire bytes to queryable entry: decode, key, handle map, copies, index. One thread, no store.
 *
 * The steady state of an engine whose cache is full: each sample stores blocks that are not held, in
 * messages that come round only after thousands of others (a branch predictor learns repeated ones),
 * or removes the oldest ones. Its counterpart happens between the samples and is not measured.
 */
import { HotIndex } from "../src/indexer/hot-index.ts";
import { Residency } from "../src/indexer/residency.ts";
import type { BlockHasher } from "../src/keys/block-hasher.ts";
import type { BenchCase } from "./harness.ts";
import { BLOCK, removeMessages, storeMessages, writePath } from "./workload.ts";

/** Blocks of a sample. */
const BLOCKS = 2048;
/** Samples that fill the cache: 65,536 blocks, a million tokens. */
const HELD = 32;
/** Samples until the messages come round. */
const ROUND = 96;
/** Prompts that an engine works on at once while it stores block by block. */
const CHAINS = 64;
/** Of these prompts so many have a full block after a step, and as many blocks are evicted for them. */
const EVENTS_PER_STEP = CHAINS / BLOCK;
/** A step that stores a piece of a prompt evicts as many blocks for it: in one message, but one an event. */
const PIECE = 32;

/**
 * A message has all events of one step of the engine's scheduler. `.alone`: the hardest there is, a
 * message for each block.
 */
export function ingestCases(hasher: BlockHasher): BenchCase[] {
  const total = ROUND * BLOCKS;
  const step = { chains: CHAINS, eventsPerMessage: EVENTS_PER_STEP };
  const pieces = once(() => samplesOf(storeMessages(total, PIECE)));
  const decode = once(() => samplesOf(storeMessages(total, 1, step)));
  const alone = once(() => samplesOf(storeMessages(total, 1, { chains: CHAINS })));
  const evict = once(() => samplesOf(removeMessages(total, PIECE)));
  const evictAlone = once(() => samplesOf(removeMessages(total, 1)));
  const full = (store: () => Sample[], remove: () => Sample[]) => (): FullEngine =>
    new FullEngine(hasher, { store: store(), evict: remove() });
  return [
    ingestCase("ingest.wire.32", "store", full(pieces, evict)),
    ingestCase("ingest.wire.1", "store", full(decode, evict)),
    ingestCase("ingest.wire.1.alone", "store", full(alone, evictAlone)),
    ingestCase("ingest.remove.1", "evict", full(pieces, evict)),
    ingestCase("ingest.remove.1.alone", "evict", full(pieces, evictAlone)),
  ];
}

/** Measures one of the two in turn. */
function ingestCase(name: string, turn: "store" | "evict", make: () => FullEngine): BenchCase {
  let engine: FullEngine | null = null;
  const prepare = (): void => {
    engine ??= make();
    engine.receive(turn === "store" ? "evict" : "store");
    engine.apply();
    engine.settle();
    engine.receive(turn);
  };
  return { name, unit: "ns/block", blocks: BLOCKS, prepare, run: () => engine?.apply() };
}

class FullEngine {
  readonly #residency = new Residency({ index: new HotIndex(), entriesMax: 10_000_000 });
  readonly #accept: (payload: Uint8Array) => void;
  readonly #samples: Samples;
  readonly #turns = { store: 0, evict: 0 };
  #received: readonly Uint8Array[] = [];

  constructor(hasher: BlockHasher, samples: Samples) {
    this.#accept = writePath(hasher, this.#residency);
    this.#samples = samples;
    while (this.#turns.store < HELD) {
      this.receive("store");
      this.apply();
    }
  }

  /** The next messages, just written to memory as by a socket. */
  receive(turn: "store" | "evict"): void {
    const { bytes, ends } = this.#samples[turn][this.#turns[turn] % ROUND] ?? NO_MESSAGES;
    const written = Uint8Array.from(bytes);
    this.#received = ends.map((end, at) => written.subarray(ends[at - 1] ?? 0, end));
    this.#turns[turn] += 1;
  }

  apply(): void {
    for (const message of this.#received) this.#accept(message);
  }

  /** What the write-behind does meanwhile: changed pages are copied. */
  settle(): void {
    this.#residency.takeFlush(Number.POSITIVE_INFINITY);
  }
}

/** Messages one behind the other: as objects of their own they would keep the garbage collector busy. */
interface Sample {
  readonly bytes: Uint8Array;
  readonly ends: readonly number[];
}

type Samples = Readonly<Record<"store" | "evict", readonly Sample[]>>;

const NO_MESSAGES: Sample = { bytes: new Uint8Array(0), ends: [] };

function samplesOf(messages: readonly Uint8Array[]): Sample[] {
  const perSample = messages.length / ROUND;
  return Array.from({ length: ROUND }, (_, sample) => {
    const own = messages.slice(sample * perSample, (sample + 1) * perSample);
    let end = 0;
    const ends = own.map(({ length }) => {
      end += length;
      return end;
    });
    return { bytes: Buffer.concat(own), ends };
  });
}

/** Made when it is needed first: rows that do not run cost nothing. */
function once<Value>(make: () => Value): () => Value {
  let value: Value | undefined;
  return () => {
    value ??= make();
    return value;
  };
}
