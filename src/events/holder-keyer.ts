/**
 * One holder's KV events -> keyed events: token ids become our keys, handles find their keys.
 *
 * Pure: state in memory only. Events have to come in the engine's order; see sequencer.ts.
 */
import { type BlockKey, blockKey, type EngineKey, engineKey } from "../core/ids.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { type ExtraKey, extraText } from "../keys/extra-keys.ts";
import { loraNamespace } from "../keys/namespace.ts";
import { type Tier, tierOfMedium } from "../tiers/tier.ts";
import { HandleMap } from "./handle-map.ts";
import type { KeyedEvent, LossReason } from "./keyed-batch.ts";
import type { BlockRemoved, BlockStored, KvEvent, KvEventBatch } from "./kv-event.ts";

/** Kinds of attention whose blocks make a prefix reusable by themselves. */
const FULL_ATTENTION_KINDS: ReadonlySet<string> = new Set([
  "full_attention",
  "mla_attention",
  "sink_full_attention",
  "unknown",
]);

export class HolderKeyer {
  readonly #model: string;
  readonly #hasher: BlockHasher;
  readonly #handles = new HandleMap();
  /** Groups of a hybrid model that are not indexed; learned from their stores. */
  readonly #ignoredGroups = new Set<number>();

  constructor(deps: { readonly model: string; readonly hasher: BlockHasher }) {
    this.#model = deps.model;
    this.#hasher = deps.hasher;
  }

  restoreHandle(handle: bigint, key: BlockKey, copies: number): void {
    this.#handles.add(engineKey(handle), key, copies);
  }

  /** The engine started anew: its handles mean nothing any more. */
  forget(): void {
    this.#handles.clear();
    this.#ignoredGroups.clear();
  }

  /** `batch` null: a message that could not be decoded; only its loss is reported. */
  keyEvents(batch: KvEventBatch | null): KeyedEvent[] {
    if (batch === null) return [lost("undecodable")];
    return batch.events.flatMap((event) => this.#key(event));
  }

  /** Follows events that an earlier relay keyed. */
  adoptEvents(events: readonly KeyedEvent[]): void {
    for (const event of events) this.#adoptEvent(event);
  }

  #key(event: KvEvent): KeyedEvent[] {
    switch (event.type) {
      case "stored":
        // Kept without an end, such blocks would be claimed long after they are gone.
        if (event.caveat === "no-removals") return [lost("no-removals")];
        if (event.caveat === "token-pairs") return [...this.#keyStored(event), lost("token-pairs")];
        return this.#keyStored(event);
      case "removed":
        return this.#keyRemoved(event);
      case "cleared":
        this.#handles.clear();
        return [{ type: "cleared" }];
      case "skipped":
        return [lost("skipped-event")];
    }
  }

  #keyStored(event: BlockStored): KeyedEvent[] {
    if (event.group !== null && !FULL_ATTENTION_KINDS.has(event.specKind ?? "unknown")) {
      this.#ignoredGroups.add(event.group);
      return [];
    }
    const tier = tierOfMedium(event.medium);
    if (tier === "unknown") return [lost("unknown-tier")];
    if (event.tokens.length === 0) return this.#placeByHandle(event, tier);
    const { handles, tokens, blockSizeTokens } = event;
    const extraKeys = event.extraKeys;
    const isExtrasFitting = extraKeys === null || extraKeys.length === handles.length;
    if (tokens.length !== handles.length * blockSizeTokens || !isExtrasFitting) {
      return [lost("length-mismatch")];
    }
    const lora = loraNamespace(event.loraName, event.loraId);
    const parent =
      event.parent === null
        ? this.#hasher.rootKey({ model: this.#model, lora, blockSizeTokens })
        : this.#handles.keyOf(event.parent);
    if (parent === null) return [lost("unknown-parent")];
    const extras = extraKeys?.map((block) => extraText(withoutLora(block, event.loraName)));
    const input = { parent, tokens, blockSizeTokens };
    const keys = this.#hasher.chainKeys(extras === undefined ? input : { ...input, extras });
    if (extraKeys === null) this.#preferKnownKeys(event, keys);
    return this.#store({ tier, handles, keys, blockSizeTokens });
  }

  /**
   * A handle that is known keeps its key, and the blocks after it follow from that: vLLM's events of
   * lower tiers tell neither salt nor images, which the GPU's event of the same block had told.
   */
  #preferKnownKeys({ handles, tokens, blockSizeTokens }: BlockStored, keys: BigUint64Array): void {
    let isMoved = false;
    for (const [position, handle] of handles.entries()) {
      if (isMoved) {
        const parent = blockKey(keys[position - 1] ?? 0n);
        const start = position * blockSizeTokens;
        const block = tokens.subarray(start, start + blockSizeTokens);
        keys.set(this.#hasher.chainKeys({ parent, tokens: block, blockSizeTokens }), position);
      }
      const known = this.#handles.keyOf(handle);
      if (known === null || known === keys[position]) continue;
      keys[position] = known;
      isMoved = true;
    }
  }

  /** Offload events carry handles only: their blocks are placed where they are known. */
  #placeByHandle(event: BlockStored, tier: Tier): KeyedEvent[] {
    const known = event.handles.flatMap((handle) => {
      const key = this.#handles.keyOf(handle);
      return key === null ? [] : [{ handle, key }];
    });
    const stored = this.#store({
      tier,
      handles: known.map(({ handle }) => handle),
      keys: BigUint64Array.from(known, ({ key }) => key),
      blockSizeTokens: 0,
    });
    return known.length === event.handles.length ? stored : [...stored, lost("unknown-handle")];
  }

  #store(event: {
    readonly tier: Tier;
    readonly handles: readonly EngineKey[];
    readonly keys: BigUint64Array;
    readonly blockSizeTokens: number;
  }): KeyedEvent[] {
    for (const [position, handle] of event.handles.entries()) {
      const key = blockKey(event.keys[position] ?? 0n);
      if (!this.#handles.add(handle, key)) return [lost("handles-full")];
    }
    const handles = BigUint64Array.from(event.handles);
    return [{ ...event, type: "stored", handles }];
  }

  #keyRemoved(event: BlockRemoved): KeyedEvent[] {
    if (event.group !== null && this.#ignoredGroups.has(event.group)) return [];
    const tier = tierOfMedium(event.medium);
    if (tier === "unknown") return [lost("unknown-tier")];
    for (const handle of event.handles) this.#handles.remove(handle);
    return [{ type: "removed", tier, handles: BigUint64Array.from(event.handles) }];
  }

  #adoptEvent(event: KeyedEvent): void {
    if (event.type === "cleared") this.#handles.clear();
    if (event.type === "removed") {
      for (const handle of event.handles) this.#handles.remove(engineKey(handle));
    }
    if (event.type === "stored") {
      for (const [position, handle] of event.handles.entries()) {
        this.#handles.add(engineKey(handle), blockKey(event.keys[position] ?? 0n));
      }
    }
  }
}

function lost(reason: LossReason): KeyedEvent {
  return { type: "lost", reason };
}

/** vLLM repeats the adapter's name as the first extra; it is part of the namespace already. */
function withoutLora(
  extras: readonly ExtraKey[] | null,
  loraName: string | null,
): readonly ExtraKey[] | null {
  return extras !== null && loraName !== null && extras[0] === loraName ? extras.slice(1) : extras;
}
