/**
 * One rank of an engine as the brute-force truth: plain Maps of what it holds, and the messages in
 * which it says so. Nothing here knows how src/ follows it.
 */
import type { Chance } from "./chance.ts";
import { type ChaosContent, DOCUMENTS, type Identity, type TruthBlock } from "./chaos-content.ts";
import { type EngineForm, encodeBatch, type WireEvent } from "./chaos-wire.ts";

/** Tiers by place: gpu, cpu, nvme, shared; each with media that mean it. */
export const MEDIA = [
  ["GPU", "gpu", "Device"],
  ["CPU", "CPU_PINNED", "Cpu_tier1"],
  ["DISK", "storage", "CPU_TIER2", "fs"],
  ["EXTERNAL", "remote"],
] as const;

interface Held {
  readonly block: TruthBlock;
  readonly copies: number[];
}

export interface Said {
  readonly life: number;
  readonly seq: number;
  /** Time of the message, ms: unlike that of any other. */
  readonly atMs: number;
  readonly payload: Uint8Array;
}

/** Holdings as text by handle, "key copies". */
export type Holdings = ReadonlyMap<bigint, string>;

export interface EngineTraits extends EngineForm {
  readonly rank: number;
  readonly blockSizes: readonly number[];
  readonly hasLowerTiers: boolean;
  /** Groups beside the full attention, whose events repeat the same hashes. */
  readonly isHybrid: boolean;
  /** Says things that no index can follow. */
  readonly isOdd: boolean;
  /** Newest messages that its replay socket has; null: it has no such socket. */
  readonly bufferMessages: number | null;
}

export class ChaosEngine {
  readonly traits: EngineTraits;
  readonly #chance: Chance;
  readonly #content: ChaosContent;
  #hashSeed = 0;
  life = 1;
  seq = -1;
  #held = new Map<bigint, Held>();
  /** Stored in this life since all was cleared: what may be named as a parent. */
  readonly #ever = new Map<bigint, TruthBlock>();
  /** Copies of the sliding group, by handle. */
  readonly #sliding = new Map<bigint, number>();
  readonly #blocks = new Set<TruthBlock>();
  /** The replay buffer. */
  said: Said[] = [];
  /** What it held after the message of each time. */
  readonly #holdingsAt = new Map<number, Holdings>();
  readonly #keyOfHandle = new Map<bigint, bigint>();
  readonly #keys = new Set<bigint>();
  /** Handles seen for each plain key in this life. */
  readonly #claims = new Map<bigint, Set<bigint>>();

  constructor(
    traits: EngineTraits,
    deps: {
      readonly chance: Chance;
      readonly content: ChaosContent;
      readonly hashSeed: number;
    },
  ) {
    this.traits = traits;
    this.#chance = deps.chance;
    this.#content = deps.content;
    this.#hashSeed = deps.hashSeed;
  }

  /** A new life: nothing held, and not a word about it. */
  restart(hashSeed: number): void {
    this.life += 1;
    this.seq = -1;
    this.#hashSeed = hashSeed;
    this.#held.clear();
    this.#ever.clear();
    this.#sliding.clear();
    this.#blocks.clear();
    this.#claims.clear();
    this.said = [];
  }

  /** Does a few things, and says them in one message; null: nothing happened. */
  step(atMs: number): Said | null {
    const events: WireEvent[] = [];
    const things = this.#chance.between(1, 4);
    for (let thing = 0; thing < things; thing += 1) events.push(...this.#doOne());
    return events.length === 0 ? null : this.#say(events, atMs);
  }

  /** Stores the whole of a document, so that something is said. */
  storeDocument(atMs: number): Said {
    const chain = this.#chain(
      this.#chance.below(DOCUMENTS),
      this.#chance.of(this.traits.blockSizes),
      {
        lora: null,
        salt: null,
        image: null,
      },
    );
    return this.#say(this.#store(chain, 0), atMs);
  }

  holdings(): Holdings {
    const holdings = new Map<bigint, string>();
    for (const [handle, { block, copies }] of this.#held) {
      if (copies.some((count) => count > 0)) holdings.set(handle, `${block.key} ${copies.join()}`);
    }
    return holdings;
  }

  holdingsAt(atMs: number): Holdings | null {
    return this.#holdingsAt.get(atMs) ?? null;
  }

  /** Key of a handle of any life; undefined: it never said such a handle. */
  keyOf(handle: bigint): bigint | undefined {
    return this.#keyOfHandle.get(handle);
  }

  /** Whether some block, of any life, has this key. */
  hasKey(key: bigint): boolean {
    return this.#keys.has(key);
  }

  /** Blocks of this life, held or not. */
  blocks(): Iterable<TruthBlock> {
    return this.#blocks;
  }

  copiesOf(handle: bigint): readonly number[] {
    return this.#held.get(handle)?.copies ?? [0, 0, 0, 0];
  }

  /** Handles that claimed a plain key in this life. */
  claimsOf(plainKey: bigint): number {
    return this.#claims.get(plainKey)?.size ?? 0;
  }

  #say(events: readonly WireEvent[], atMs: number): Said {
    this.seq += 1;
    const payload = encodeBatch(events, {
      atMs,
      form: this.traits,
      chance: this.#chance,
      rank: this.traits.rank,
    });
    const said = { life: this.life, seq: this.seq, atMs, payload };
    this.said.push(said);
    const { bufferMessages } = this.traits;
    if (this.said.length > (bufferMessages ?? 0)) this.said.shift();
    this.#holdingsAt.set(atMs, this.holdings());
    return said;
  }

  #doOne(): WireEvent[] {
    const { hasLowerTiers, isOdd } = this.traits;
    const dice = this.#chance.below(100);
    if (this.seq < 0 && this.traits.engine === "sglang" && this.#ever.size === 0) {
      return [{ type: "AllBlocksCleared" }, ...this.#storeSome()];
    }
    if (dice < 50) return this.#storeSome();
    if (dice < 72) return this.#removeSome();
    if (dice < 76) return this.#removeAgain();
    if (dice < 79) return this.#clear();
    if (dice < 82 && isOdd) return this.#sayOdd();
    if (hasLowerTiers) return dice < 94 ? this.#offload() : this.#dropLower();
    return this.#storeSome();
  }

  #storeSome(): WireEvent[] {
    const { chance } = { chance: this.#chance };
    const identity = {
      lora: chance.is(0.2) ? chance.of(["sql", "chat"]) : null,
      salt: chance.is(0.25) ? chance.of(["tenant-a", "tenant-b"]) : null,
      image: chance.is(0.15) ? chance.of(["img-1", "img-2"]) : null,
    };
    const chain = this.#chain(chance.below(DOCUMENTS), chance.of(this.traits.blockSizes), identity);
    const starts = chain.flatMap((_, depth) => {
      const before = chain[depth - 1];
      return depth === 0 || (before !== undefined && this.#ever.has(before.handle)) ? [depth] : [];
    });
    const start = chance.is(0.4) ? 0 : chance.of(starts);
    return this.#store(chain.slice(0, start + chance.between(1, chain.length - start)), start);
  }

  /** Blocks of the chain from `start` on enter the GPU. */
  #store(chain: readonly TruthBlock[], start: number): WireEvent[] {
    const stored = chain.slice(start);
    for (const block of stored) {
      this.#add(block, 0);
      this.#ever.set(block.handle, block);
      this.#claim(block);
    }
    const isPaged = this.traits.engine === "sglang" && this.#chance.is(0.5);
    const runs = isPaged ? stored.map((block) => [block]) : [stored];
    const events = runs.map((run) => this.#storedEvent(run, 0));
    if (!this.traits.isHybrid) return events;
    const sliding = events.map((event) => ({ ...event, group: 1, kind: "sliding_window" }));
    for (const { handle } of stored)
      this.#sliding.set(handle, (this.#sliding.get(handle) ?? 0) + 1);
    return [...events, ...sliding];
  }

  #storedEvent(run: readonly TruthBlock[], tier: number): WireEvent {
    const [first] = run;
    return {
      type: "BlockStored",
      digests: run.map(({ digest }) => digest),
      parent: first?.parent?.digest ?? null,
      tokens: run.flatMap(({ tokens }) => tokens),
      size: first?.size ?? 0,
      medium: this.#chance.of(MEDIA[tier] ?? ["GPU"]),
      lora: first?.lora ?? null,
      extras: run.map(({ extras }) => extras),
      ...(this.traits.isHybrid ? { group: 0, kind: "full_attention" } : {}),
    };
  }

  #removeSome(): WireEvent[] {
    const held = [...this.#held.values()].filter(({ copies }) => (copies[0] ?? 0) > 0);
    const events: WireEvent[] = [];
    const removed: TruthBlock[] = [];
    for (let count = this.#chance.between(1, 3); count > 0 && held.length > 0; count -= 1) {
      const chosen = this.#chance.of(held);
      if ((chosen.copies[0] ?? 0) === 0) continue;
      chosen.copies[0] = (chosen.copies[0] ?? 0) - 1;
      removed.push(chosen.block);
    }
    const lists = this.#chance.is(0.3) ? [removed] : removed.map((block) => [block]);
    for (const list of lists) {
      if (list.length > 0) events.push(this.#removedEvent(list, 0));
    }
    const slid = [...this.#sliding].filter(([, copies]) => copies > 0);
    if (slid.length > 0 && this.#chance.is(0.5)) {
      const [handle, copies] = this.#chance.of(slid);
      const block = this.#ever.get(handle);
      this.#sliding.set(handle, copies - 1);
      if (block !== undefined) events.push({ ...this.#removedEvent([block], 0), group: 1 });
    }
    return events;
  }

  /** Of blocks that it does not have (any more). */
  #removeAgain(): WireEvent[] {
    const gone = [...this.#ever.values()].filter(({ handle }) => this.copiesOf(handle)[0] === 0);
    return gone.length === 0 ? [] : [this.#removedEvent([this.#chance.of(gone)], 0)];
  }

  #removedEvent(blocks: readonly TruthBlock[], tier: number): WireEvent {
    return {
      type: "BlockRemoved",
      digests: blocks.map(({ digest }) => digest),
      medium: this.#chance.of(MEDIA[tier] ?? ["GPU"]),
      ...(this.traits.isHybrid ? { group: 0 } : {}),
    };
  }

  #clear(): WireEvent[] {
    const areAll = this.#chance.is(0.5);
    for (const { copies } of this.#held.values()) copies.fill(0, 0, areAll ? 4 : 1);
    this.#ever.clear();
    this.#sliding.clear();
    return [{ type: "AllBlocksCleared" }, ...(this.#chance.is(0.7) ? this.#storeSome() : [])];
  }

  #offload(): WireEvent[] {
    const known = [...this.#ever.values()];
    if (known.length === 0) return [];
    const tier = this.#chance.between(1, 3);
    const chosen = new Set([this.#chance.of(known), this.#chance.of(known)]);
    const blocks = this.#chance.is(0.5) ? [...chosen] : [...chosen].reverse();
    for (const block of blocks) this.#add(block, tier);
    const isSelfDescribing = this.traits.engine === "sglang" || this.#chance.is(0.5);
    if (isSelfDescribing) return blocks.map((block) => this.#lowerEvent(block, tier));
    return [
      {
        type: "BlockStored",
        digests: blocks.map(({ digest }) => digest),
        parent: null,
        tokens: [],
        size: 0,
        medium: this.#chance.of(MEDIA[tier] ?? ["CPU"]),
        lora: null,
        extras: null,
      },
    ];
  }

  /** vLLM never tells extras of lower tiers; SGLang tells the salt as everywhere. */
  #lowerEvent(block: TruthBlock, tier: number): WireEvent {
    const event = this.#storedEvent([block], tier);
    return this.traits.engine === "sglang" ? event : { ...event, extras: null };
  }

  #dropLower(): WireEvent[] {
    const tier = this.#chance.between(1, 3);
    const held = [...this.#held.values()].filter(({ copies }) => (copies[tier] ?? 0) > 0);
    if (held.length === 0) return [];
    const { block, copies } = this.#chance.of(held);
    copies[tier] = (copies[tier] ?? 0) - 1;
    return [this.#removedEvent([block], tier)];
  }

  /** What costs exactness: a parent that was never told, hashes that lack their tokens, the unknown. */
  #sayOdd(): WireEvent[] {
    switch (this.#chance.below(4)) {
      case 0: {
        const chain = this.#chain(this.#chance.below(DOCUMENTS), this.traits.blockSizes[0] ?? 1, {
          lora: null,
          salt: "never-told",
          image: null,
        });
        return this.#store(chain, this.#chance.between(1, chain.length - 1));
      }
      case 1: {
        const [event, ...rest] = this.#storeSome();
        if (event === undefined) return [];
        return [{ ...event, tokens: event.tokens?.slice(1) ?? [] }, ...rest];
      }
      case 2:
        return [{ type: "BlockMoved" }];
      default:
        return [{ type: "BlockRemoved", digests: [], medium: "PUNCHED_TAPE" }];
    }
  }

  #add(block: TruthBlock, tier: number): void {
    const held = this.#held.get(block.handle) ?? { block, copies: [0, 0, 0, 0] };
    held.copies[tier] = (held.copies[tier] ?? 0) + 1;
    this.#held.set(block.handle, held);
  }

  #claim({ handle, plainKey }: TruthBlock): void {
    const claims = this.#claims.get(plainKey) ?? new Set();
    this.#claims.set(plainKey, claims.add(handle));
  }

  #chain(document: number, size: number, identity: Identity): readonly TruthBlock[] {
    const isImaged = this.traits.engine === "vllm";
    const image = isImaged ? identity.image : null;
    const chain = this.#content.chain({
      ...identity,
      image,
      document,
      size,
      hashSeed: this.#hashSeed,
    });
    for (const block of chain) {
      this.#blocks.add(block);
      this.#keyOfHandle.set(block.handle, block.key);
      this.#keys.add(block.key);
    }
    return chain;
  }
}
