/** A relay's stream in small: blocks of two tokens, and what a message of them becomes. */
import { engineKey } from "../../src/core/ids.ts";
import type { HolderRelay } from "../../src/events/holder-relay.ts";
import type { KeyedBatch, KeyedEvent } from "../../src/events/keyed-batch.ts";
import type { BlockStored, KvEvent } from "../../src/events/kv-event.ts";

/** Blocks of two tokens; block n has the handle n and the tokens n, n + 1000. */
export function stored(blocks: readonly number[], fields: Partial<BlockStored> = {}): BlockStored {
  return {
    type: "stored",
    handles: BigUint64Array.from(blocks, BigInt),
    parent: null,
    tokens: tokensOf(blocks),
    blockSizeTokens: 2,
    medium: "GPU",
    loraName: null,
    loraId: null,
    extraKeys: null,
    group: null,
    specKind: null,
    ...fields,
  };
}

export function removed(blocks: readonly number[], medium: string | null = "GPU"): KvEvent {
  const handles = BigUint64Array.from(blocks, BigInt);
  return { type: "removed", handles, medium, group: null };
}

export function tokensOf(blocks: readonly number[]): Uint32Array {
  return Uint32Array.from(blocks.flatMap((block) => [block, block + 1000]));
}

export const byHandle = { tokens: new Uint32Array(0), blockSizeTokens: 0, medium: "CPU" };
export const parent = (block: number): { parent: BlockStored["parent"] } => ({
  parent: engineKey(BigInt(block)),
});
export function relayAt(
  relay: HolderRelay,
  { seq, ts = seq + 1 }: { readonly seq: number; readonly ts?: number },
  ...events: KvEvent[]
): KeyedBatch | null {
  return relay.live({ seq, batch: { ts, rank: 0, events } }).batches[0] ?? null;
}

export const keysIn = (event: KeyedEvent | undefined): bigint[] =>
  event?.type === "stored" ? [...event.keys] : [];
