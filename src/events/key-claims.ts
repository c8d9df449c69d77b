/**
 * Token ids -> keys of one holder's blocks, which their handles claim in the handle map.
 *
 * A handle that is known keeps its key: vLLM's events of lower tiers tell neither salt nor images, which
 * the GPU's event of the same block had told. The blocks behind it follow from that.
 */
import { type BlockKey, blockKey, engineKey } from "../core/ids.ts";
import { Slab } from "../core/slab.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { loraNamespace } from "../keys/namespace.ts";
import type { Tier } from "../tiers/tier.ts";
import type { HandleMap } from "./handle-map.ts";
import type { KeyedStored } from "./keyed-batch.ts";
import type { BlockStored } from "./kv-event.ts";
import type { PlainRun } from "./plain-batch.ts";

/** Where keys and rows of all holders' batches lie. */
const slab = new Slab();

/** Blocks that are being claimed: their arrays are filled, event by event. */
export type Claimed = Required<Omit<KeyedStored, "span">>;

export interface ClaimingEvent extends Pick<BlockStored, "handles" | "tokens" | "blockSizeTokens"> {
  readonly parent: BlockKey;
  /** Null: none of them has any. */
  readonly extras: readonly (string | null)[] | null;
}

export class KeyClaims {
  readonly #model: string;
  readonly #hasher: BlockHasher;
  readonly #handles: HandleMap;
  /** The root asked for last: prompts mostly begin in the same namespace. */
  #lastRoot: {
    readonly lora: string | null;
    readonly blockSizeTokens: number;
    readonly key: BlockKey;
  } | null = null;

  constructor(deps: {
    readonly model: string;
    readonly hasher: BlockHasher;
    readonly handles: HandleMap;
  }) {
    this.#model = deps.model;
    this.#hasher = deps.hasher;
    this.#handles = deps.handles;
  }

  /** Key of the block before an event's first one, or the root of its namespace; null: not known. */
  parentKey({ parent, loraName, loraId, blockSizeTokens }: BlockStored): BlockKey | null {
    if (parent !== null) return this.#handles.keyOf(parent);
    return this.#rootKey(loraNamespace(loraName, loraId), blockSizeTokens);
  }

  /** Whether the parents of a run are known. */
  findParents(run: PlainRun): boolean {
    return this.#handles.findParents(run, this.#rootKey(null, run.blockSizeTokens));
  }

  /** Adds the blocks of a run whose parents were just found. Returns how many: fewer if the map is full. */
  claimRun(run: PlainRun): number {
    return this.#handles.claimRun(run, this.#hasher.seed);
  }

  #rootKey(lora: string | null, blockSizeTokens: number): BlockKey {
    const last = this.#lastRoot;
    if (last?.lora === lora && last.blockSizeTokens === blockSizeTokens) return last.key;
    const key = this.#hasher.rootKey({ model: this.#model, lora, blockSizeTokens });
    this.#lastRoot = { lora, blockSizeTokens, key };
    return key;
  }

  /** Blocks of which nothing is claimed yet. */
  begin(tier: Tier, handles: BigUint64Array, blockSizeTokens: number): Claimed {
    const blocks = handles.length;
    const [keys, parents, rows] = [slab.u64(blocks), slab.u64(blocks), slab.u32(blocks)];
    return { type: "stored", tier, handles, keys, parents, rows, blockSizeTokens };
  }

  /** Adds an event's blocks, which begin at `start` of `claimed`. False: the map is full. */
  claim(event: ClaimingEvent, claimed: Claimed, start: number): boolean {
    const { handles } = event;
    const { keys, parents } = claimed;
    const end = start + handles.length;
    this.#hash(event, keys, start);
    parents[start] = event.parent;
    let position = this.#handles.addAll(claimed, "claimed", start, end);
    // Behind a key of before, block by block: a stream may have one such behind the other, and with each
    // of them all that follows would be hashed again.
    while (position < end) {
      const known = this.#handles.keyOf(engineKey(handles[position - start] ?? 0n));
      if (known !== null && known !== keys[position]) keys[position] = known;
      if (this.#handles.addAll(claimed, "claimed", position, position + 1) === position)
        return false;
      position += 1;
      if (position < end) this.#hashOne(event, keys, start, position);
    }
    return true;
  }

  /** The key of the block at `position` of `keys`, which goes on from the one before it. */
  #hashOne(event: ClaimingEvent, keys: BigUint64Array, start: number, position: number): void {
    const { handles, blockSizeTokens, extras } = event;
    const depth = position - start;
    const tokens = event.tokens.subarray(depth * blockSizeTokens, (depth + 1) * blockSizeTokens);
    const parent = blockKey(keys[position - 1] ?? 0n);
    const one = extras?.slice(depth, depth + 1) ?? null;
    this.#hash({ handles, blockSizeTokens, tokens, parent, extras: one }, keys, position);
  }

  #hash(event: ClaimingEvent, keys: BigUint64Array, start: number): void {
    const { parent, tokens, blockSizeTokens, extras } = event;
    const input = { parent, tokens, blockSizeTokens };
    this.#hasher.chainKeysInto(extras === null ? input : { ...input, extras }, keys, start);
  }
}

/** The first `blocks` of them. */
export function firstOf(claimed: Claimed, blocks: number): Claimed {
  const { handles, keys, parents, rows } = claimed;
  return {
    ...claimed,
    handles: handles.subarray(0, blocks),
    keys: keys.subarray(0, blocks),
    parents: parents.subarray(0, blocks),
    rows: rows.subarray(0, blocks),
  };
}
