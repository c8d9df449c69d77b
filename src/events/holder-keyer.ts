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
import { Orphans } from "./orphans.ts";
import { PlainKeys } from "./plain-keys.ts";

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
  readonly #plainKeys = new PlainKeys();
  readonly #orphans = new Orphans();
  /** Groups of a hybrid model that are not indexed; learned from their stores. */
  readonly #ignoredGroups = new Set<number>();

  constructor(deps: { readonly model: string; readonly hasher: BlockHasher }) {
    this.#model = deps.model;
    this.#hasher = deps.hasher;
  }

  restoreHandle(handle: bigint, key: BlockKey, copies: number): void {
    this.#handles.add(engineKey(handle), key, copies);
    this.#plainKeys.resolve(engineKey(handle), key);
  }

  /** The engine started anew: its handles mean nothing any more. */
  forget(): void {
    this.#dropAll();
    this.#ignoredGroups.clear();
  }

  /** `batch` null: a message that could not be decoded; only its loss is reported. */
  keyEvents(batch: KvEventBatch | null): KeyedEvent[] {
    if (batch === null) return [lost("undecodable")];
    const keyed: KeyedEvent[] = [];
    for (const event of batch.events) for (const each of this.#key(event)) keyed.push(each);
    return keyed;
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
        this.#dropAll();
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
    if (parent === null) return this.#holdOrphan(event);
    const extras = extraKeys?.map((block) => extraText(withoutLora(block, event.loraName)));
    const input = { parent, tokens, blockSizeTokens };
    const keys = this.#hasher.chainKeys(extras === undefined ? input : { ...input, extras });
    const rekeyed = extraKeys === null ? this.#resolvePlainKeys(event, keys) : [];
    return [...rekeyed, ...this.#store({ tier, handles, keys, blockSizeTokens })];
  }

  /** The holder is DEGRADED meanwhile: something it has is not in the index. */
  #holdOrphan(event: BlockStored): KeyedEvent[] {
    const isHeld = event.parent !== null && this.#orphans.hold(event, event.parent);
    return [lost(isHeld ? "unknown-parent" : "orphans-full")];
  }

  /**
   * Keys of an event that tells no identity beside the tokens. A handle that is known keeps its key:
   * vLLM's events of lower tiers tell neither salt nor images, which the GPU's event of the same block
   * had told. A key that two handles claim is not routed on. The blocks behind follow from either.
   */
  #resolvePlainKeys(event: BlockStored, keys: BigUint64Array): KeyedEvent[] {
    const { handles, tokens, blockSizeTokens } = event;
    const rekeyed: KeyedEvent[] = [];
    let isMoved = false;
    for (let position = 0; position < handles.length; position += 1) {
      if (isMoved) {
        const parent = blockKey(keys[position - 1] ?? 0n);
        const start = position * blockSizeTokens;
        const block = tokens.subarray(start, start + blockSizeTokens);
        keys.set(this.#hasher.chainKeys({ parent, tokens: block, blockSizeTokens }), position);
      }
      const handle = handles[position] ?? NO_HANDLE;
      const computed = blockKey(keys[position] ?? 0n);
      const known = this.#handles.keyOf(handle);
      const plain = known === null ? this.#plainKeys.resolve(handle, computed) : null;
      const key = plain?.key ?? known ?? computed;
      if (plain?.rekeyed) {
        this.#handles.rekey(plain.rekeyed.handle, plain.rekeyed.key);
        rekeyed.push({ type: "rekeyed", ...plain.rekeyed });
      }
      if (key === computed) continue;
      keys[position] = key;
      isMoved = true;
    }
    return rekeyed;
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
    const { tier, keys, blockSizeTokens } = event;
    const handles = handlesOf(event.handles);
    for (let position = 0; position < handles.length; position += 1) {
      const key = blockKey(keys[position] ?? 0n);
      if (!this.#handles.add(event.handles[position] ?? NO_HANDLE, key)) {
        return [lost("handles-full")];
      }
    }
    const stored: KeyedEvent = { type: "stored", tier, handles, keys, blockSizeTokens };
    if (this.#orphans.size === 0) return [stored];
    const waiting = event.handles.flatMap((handle) => this.#orphans.take(handle));
    return [stored, ...waiting.flatMap((each) => this.#key(each))];
  }

  #keyRemoved(event: BlockRemoved): KeyedEvent[] {
    if (event.group !== null && this.#ignoredGroups.has(event.group)) return [];
    const tier = tierOfMedium(event.medium);
    if (tier === "unknown") return [lost("unknown-tier")];
    if (this.#orphans.size === 0) {
      for (const handle of event.handles) this.#handles.remove(handle);
      return [{ type: "removed", tier, handles: handlesOf(event.handles) }];
    }
    // A copy that is placed goes first: the one that waits is unknown to the index anyway.
    const placed = event.handles.filter(
      (handle) => this.#handles.has(handle) || !this.#orphans.removed(handle, event),
    );
    if (placed.length === 0) return [];
    for (const handle of placed) this.#handles.remove(handle);
    return [{ type: "removed", tier, handles: BigUint64Array.from(placed) }];
  }

  #dropAll(): void {
    this.#handles.clear();
    this.#plainKeys.clear();
    this.#orphans.clear();
  }

  #adoptEvent(event: KeyedEvent): void {
    if (event.type === "cleared") this.#dropAll();
    if (event.type === "rekeyed") this.#handles.rekey(event.handle, event.key);
    if (event.type === "removed") {
      for (const handle of event.handles) this.#handles.remove(engineKey(handle));
    }
    if (event.type === "stored") {
      for (const [position, handle] of event.handles.entries()) {
        this.restoreHandle(handle, blockKey(event.keys[position] ?? 0n), 1);
      }
    }
  }
}

/** Stands for a position that an array does not have. */
const NO_HANDLE = engineKey(0n);

function handlesOf(handles: readonly EngineKey[]): BigUint64Array {
  const packed = new BigUint64Array(handles.length);
  for (let position = 0; position < handles.length; position += 1) {
    packed[position] = handles[position] ?? NO_HANDLE;
  }
  return packed;
}

function lost(reason: LossReason): KeyedEvent {
  return { type: "lost", reason };
}

/** vLLM repeats the adapter's name as the first extra; it is part of the namespace already. */
export function withoutLora(
  extras: readonly ExtraKey[] | null,
  loraName: string | null,
): readonly ExtraKey[] | null {
  return extras !== null && loraName !== null && extras[0] === loraName ? extras.slice(1) : extras;
}
