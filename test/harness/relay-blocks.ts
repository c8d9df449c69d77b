/** A relay's stream in small: blocks of two tokens, and what a message of them becomes. */
import { endpointId, engineKey, type Holder } from "../../src/core/ids.ts";
import { HolderRelay, type HolderRelayDeps } from "../../src/events/holder-relay.ts";
import type { KeyedBatch, KeyedEvent } from "../../src/events/keyed-batch.ts";
import type { BlockStored, KvEvent } from "../../src/events/kv-event.ts";
import { createBlockHasher } from "../../src/keys/block-hasher.ts";
import { keysByDefinition } from "./golden-holdings.ts";

const SEED = 3;
export const MODEL = "model";
export const holder: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
export const plain = { model: MODEL, lora: null, blockSizeTokens: 2 };

const hasher = await createBlockHasher(SEED);
export const keysOf = await keysByDefinition(SEED);

export const newRelay = (options: Partial<HolderRelayDeps> = {}): HolderRelay =>
  new HolderRelay({ holder, model: MODEL, hasher, canReplay: false, ...options });

/** Keys of a chain of these blocks. */
export const chain = (...blocks: number[]): bigint[] =>
  keysOf({ ...plain, tokens: [...tokensOf(blocks)] });

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
