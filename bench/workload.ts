/** What the rows are made of: token ids, endpoints, and an engine's messages. */
import { Encoder } from "@msgpack/msgpack";
import { endpointId, type Holder } from "../src/core/ids.ts";
import { silentLog } from "../src/core/log.ts";
import { silentMeter } from "../src/core/meter.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { seededRandom } from "../src/core/random.ts";
import { Applier } from "../src/events/applier.ts";
import { HolderRelay } from "../src/events/holder-relay.ts";
import { decodeVllmBatch } from "../src/events/vllm-decoder.ts";
import type { IndexWriter } from "../src/indexer/block-index.ts";
import type { Residency } from "../src/indexer/residency.ts";
import type { BlockHasher } from "../src/keys/block-hasher.ts";

/** Tokens per block. */
export const BLOCK = 16;
export const NAMESPACE = { model: "bench", lora: null, blockSizeTokens: BLOCK } as const;
/** Engines send their time as a float. */
const TS = 0.5;
/** Size of Qwen's vocabulary: of a uniform token neither the value nor its width can be foreseen. */
const VOCABULARY = 151_936;

const encoder = new Encoder({ useBigInt64: true });

/** The same ones each time: fewer blocks are the beginning of more. */
export function tokensOf(blocks: number): Uint32Array {
  const random = seededRandom(1);
  return Uint32Array.from({ length: blocks * BLOCK }, () => Math.floor(random.next() * VOCABULARY));
}

export const holderOf = (number: number): Holder => ({
  endpointId: endpointId(`10.0.${number >> 8}.${number & 255}:8000`),
  rank: 0,
});

/**
 * What an engine says that stores `blocks`, event by event. With several `chains` (default 1) it works
 * on as many prompts at once: block n is of chain n % chains, so that parents lie far apart. A message
 * has the events of one scheduler step, `eventsPerMessage` (default 1).
 */
export function storeMessages(
  blocks: number,
  blocksPerEvent: number,
  {
    chains = 1,
    eventsPerMessage = 1,
  }: { readonly chains?: number; readonly eventsPerMessage?: number } = {},
): Uint8Array[] {
  const tokens = tokensOf(blocks);
  const event = (number: number): unknown[] => {
    const first = number * blocksPerEvent;
    const part = tokens.subarray(first * BLOCK, (first + blocksPerEvent) * BLOCK);
    const handles = Array.from({ length: blocksPerEvent }, (_, i) => wide(first + i));
    const parent = first < chains ? null : wide(first - chains);
    return ["BlockStored", handles, parent, [...part], BLOCK, null, "GPU"];
  };
  return messagesOf(blocks / blocksPerEvent, eventsPerMessage, event);
}

/** An event for each block, as engines evict them, in the order in which they were stored. */
export function removeMessages(blocks: number, eventsPerMessage: number): Uint8Array[] {
  return messagesOf(blocks, eventsPerMessage, (block) => ["BlockRemoved", [wide(block)], "GPU"]);
}

function messagesOf(
  events: number,
  eventsPerMessage: number,
  event: (number: number) => unknown[],
): Uint8Array[] {
  return Array.from({ length: events / eventsPerMessage }, (_, message) => {
    const first = message * eventsPerMessage;
    const own = Array.from({ length: eventsPerMessage }, (_, at) => event(first + at));
    return encoder.encode([TS, own, 0]);
  });
}

/** Takes messages of one engine all the way into `residency` and its index. */
export function writePath(
  hasher: BlockHasher,
  residency: Residency,
): (payload: Uint8Array) => void {
  const relay = new HolderRelay({ holder: holderOf(0), model: "bench", hasher, canReplay: false });
  const ports = { clock: nodeClock, log: silentLog, meter: silentMeter };
  const applier = new Applier({ ...ports, residency });
  let seq = 0;
  return (payload) => {
    const decoded = decodeVllmBatch(payload);
    if (!decoded.ok) throw new Error(decoded.detail);
    const { batches } = relay.live({ seq, batch: decoded.value });
    seq += 1;
    for (const batch of batches) applier.accept(batch);
  };
}

/** The handle of a block: a hash, as engines send it (finalizer of SplitMix64, a bijection). */
export function wide(block: number): bigint {
  const counted = BigInt(block) * 0x9e37_79b9_7f4a_7c15n;
  const once = BigInt.asUintN(64, (counted ^ (counted >> 30n)) * 0xbf58_476d_1ce4_e5b9n);
  const twice = BigInt.asUintN(64, (once ^ (once >> 27n)) * 0x94d0_49bb_1331_11ebn);
  return twice ^ (twice >> 31n);
}

/** Where only the residency is meant. */
export const NO_INDEX: IndexWriter = {
  store: () => 0,
  remove: () => {},
  storeMany: () => 0,
  repeated: [],
  removeMany: () => {},
};
