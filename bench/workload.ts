/** What the rows are made of: token ids, endpoints, and an engine's messages. */
import { encode } from "@msgpack/msgpack";
import { endpointId, type Holder } from "../src/core/ids.ts";
import { silentLog } from "../src/core/log.ts";
import { silentMeter } from "../src/core/meter.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { Applier } from "../src/events/applier.ts";
import { HolderRelay } from "../src/events/holder-relay.ts";
import { decodeVllmBatch } from "../src/events/vllm-decoder.ts";
import type { Residency } from "../src/indexer/residency.ts";
import type { BlockHasher } from "../src/keys/block-hasher.ts";

/** Tokens per block. */
export const BLOCK = 16;
export const NAMESPACE = { model: "bench", lora: null, blockSizeTokens: BLOCK } as const;
/** Engines send their time as a float. */
const TS = 0.5;

export function tokensOf(blocks: number): Uint32Array {
  return Uint32Array.from({ length: blocks * BLOCK }, (_, i) => (i * 2_654_435_761 + 1) >>> 15);
}

export const holderOf = (number: number): Holder => ({
  endpointId: endpointId(`10.0.${number >> 8}.${number & 255}:8000`),
  rank: 0,
});

/** One chain of `blocks`, as an engine stores it. */
export function storeMessages(blocks: number, blocksPerEvent: number): Uint8Array[] {
  const tokens = tokensOf(blocks);
  return Array.from({ length: blocks / blocksPerEvent }, (_, event) => {
    const first = event * blocksPerEvent;
    const part = tokens.subarray(first * BLOCK, (first + blocksPerEvent) * BLOCK);
    const handles = Array.from({ length: blocksPerEvent }, (_, i) => wide(first + i));
    const parent = first === 0 ? null : wide(first - 1);
    const stored = ["BlockStored", handles, parent, [...part], BLOCK, null, "GPU"];
    return encode([TS, [stored], 0], { useBigInt64: true });
  });
}

export function removeMessages(blocks: number): Uint8Array[] {
  return Array.from({ length: blocks }, (_, block) =>
    encode([TS, [["BlockRemoved", [wide(block)], "GPU"]], 0], { useBigInt64: true }),
  );
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

/** A handle as engines send them: beyond 2^53. */
export function wide(block: number): bigint {
  return 0xabcd_0000_0000_0000n + BigInt(block);
}
