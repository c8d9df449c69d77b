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
import { removeMessages, storeMessages, writePath } from "./workload.ts";

/** Blocks of a sample. */
const BLOCKS = 2048;
/** Samples that fill the cache: 65,536 blocks, a million tokens. */
const HELD = 32;
/** Samples until the messages come round. */
const ROUND = 96;
/** Prompts that an engine works on at once while it stores block by block. */
const CHAINS = 64;

export function ingestCases(hasher: BlockHasher): BenchCase[] {
  const prefill = once(() => samplesOf(storeMessages(ROUND * BLOCKS, 32)));
  const decode = once(() => samplesOf(storeMessages(ROUND * BLOCKS, 1, { chains: CHAINS })));
  const evict = once(() => samplesOf(removeMessages(ROUND * BLOCKS)));
  const full = (store: () => Sample[]) => (): FullEngine =>
    new FullEngine(hasher, { store: store(), evict: evict() });
  return [
    ingestCase("ingest.wire.32", "store", full(prefill)),
    ingestCase("ingest.wire.1", "store", full(decode)),
    ingestCase("ingest.remove.1", "evict", full(prefill)),
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
