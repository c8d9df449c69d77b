/**
 * One rank of an engine as the brute-force truth: plain Maps of what it holds, and the messages in
 * which it says so. Nothing here knows how src/ follows it.
 */
import type { Chance } from "./chance.ts";
import { ChaosClaims } from "./chaos-claims.ts";
import {
  type ChaosContent,
  DOCUMENTS,
  type Identity,
  identityOf,
  PLAIN,
  runsOfSize,
  type TruthBlock,
} from "./chaos-content.ts";
import { Held, Hints, type Lane, MEDIA } from "./chaos-held.ts";
import type { Holdings, Said } from "./chaos-said.ts";
import { chunksEvent, type EngineTraits, encodeBatch, type WireEvent } from "./chaos-wire.ts";

const NO_COPIES: readonly number[] = MEDIA.map(() => 0);

export class ChaosEngine {
  readonly traits: EngineTraits;
  readonly #chance: Chance;
  readonly #content: ChaosContent;
  #hashSeed = 0;
  /** Full groups that were named in this life. */
  readonly #named = new Set([0]);
  life = 1;
  seq = -1;
  #held = new Map<bigint, Held>();
  /** Stored in this life since all was cleared: what may be named as a parent. */
  readonly #ever = new Map<bigint, TruthBlock>();
  /** Copies of the sliding group, by handle. */
  readonly #sliding = new Map<bigint, number>();
  readonly #hints = new Hints();
  /** Time of the message that is being made. */
  #atMs = 0;
  readonly #blocks = new Set<TruthBlock>();
  /** The replay buffer. */
  said: Said[] = [];
  /** What it held after the message of each time. */
  readonly #holdingsAt = new Map<number, Holdings>();
  /** Blocks of all lives. */
  readonly #blockOf = new Map<bigint, TruthBlock>();
  readonly #keys = new Set<bigint>();
  readonly claims = new ChaosClaims();
  /** Handles that a lower tier's event named without the salt or image that they have. */
  readonly #untold = new Set<bigint>();

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
    this.#hints.clear();
    this.#named.clear();
    this.#named.add(0);
    this.#blocks.clear();
    this.claims.endLife();
    this.said = [];
  }

  /** Does a few things, and says them in one message; null: nothing happened. */
  step(atMs: number): Said | null {
    this.#atMs = atMs;
    const events: WireEvent[] = [];
    const things = this.#chance.between(1, 4);
    for (let thing = 0; thing < things; thing += 1) events.push(...this.#doOne());
    return events.length === 0 ? null : this.#say(events, atMs);
  }

  /** Stores the whole of a document, so that something is said. */
  storeDocument(atMs: number): Said {
    const sizes = this.#chance.of(this.traits.chainSizes);
    const chain = this.#chain(this.#chance.below(DOCUMENTS), sizes, PLAIN);
    return this.#say(this.#store(chain, 0), atMs);
  }

  holdings(): Holdings {
    const holdings = new Map<bigint, string>();
    for (const [handle, held] of this.#held) {
      const copies = held.usable(this.#named);
      if (copies.some((count) => count > 0))
        holdings.set(handle, `${held.block.key} ${copies.join()}`);
    }
    for (const { handle, key } of this.#hints.at(this.#atMs))
      holdings.set(handle, `${key} 0,1,0,0`);
    return holdings;
  }

  /** Whether it is a connector's, which may be believed for less long than it could be. */
  isHint(handle: bigint): boolean {
    return this.#hints.has(handle);
  }

  holdingsAt(atMs: number): Holdings | null {
    return this.#holdingsAt.get(atMs) ?? null;
  }

  /** Of any life; undefined: it never said such a handle. */
  blockOf(handle: bigint): TruthBlock | undefined {
    return this.#blockOf.get(handle);
  }

  /** Whether a block, or one before it, was named without its salt or image. */
  isIdentityUntold(handle: bigint): boolean {
    let block = this.#blockOf.get(handle) ?? null;
    while (block !== null && !this.#untold.has(block.handle)) block = block.parent;
    return block !== null;
  }

  /** Whether some block, of any life, has this key. */
  hasKey(key: bigint): boolean {
    return this.#keys.has(key);
  }

  /** Blocks of this life, held or not. */
  blocks(): Iterable<TruthBlock> {
    return this.#blocks;
  }

  /** In each tier: of the full group that has the fewest, of those that were named, over all media. */
  copiesOf(handle: bigint): readonly number[] {
    return this.#held.get(handle)?.usable(this.#named) ?? NO_COPIES;
  }

  #lanesOf(tier: number): Lane[] {
    const media = tier === 0 ? [0] : [...(this.traits.media[tier] ?? []).keys()];
    return [...this.#named].flatMap((group) => media.map((medium) => ({ tier, medium, group })));
  }

  #say(events: readonly WireEvent[], atMs: number): Said {
    this.#atMs = atMs;
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
    const { hasLowerTiers, hasConnector, isOdd, isClearing } = this.traits;
    const dice = this.#chance.below(100);
    if (this.seq < 0 && this.traits.engine === "sglang" && this.#ever.size === 0) {
      return [{ type: "AllBlocksCleared" }, ...this.#storeSome()];
    }
    if (dice < 50) return this.#storeSome();
    if (dice < 72) return this.#removeSome();
    if (dice < 76) return this.#removeAgain();
    if (dice < 79 && isClearing) return this.#clear();
    if (dice < 82 && isOdd) return this.#sayOdd();
    if (hasConnector && this.#ever.size > 0) return this.#storeChunks();
    if (hasLowerTiers) return dice < 94 ? this.#offload() : this.#dropLower();
    return this.#storeSome();
  }

  /** A connector stores some chunks of a document, from the first one on. */
  #storeChunks(): WireEvent[] {
    const chain = this.#content.chain(Hints.chainOf(this.#chance.below(DOCUMENTS)));
    const stored = chain.slice(0, this.#chance.between(1, chain.length));
    for (const block of stored) {
      this.#hints.add(block, this.#atMs);
      this.#blockOf.set(block.handle, block);
      this.#keys.add(block.key);
    }
    const isOneByOne = this.traits.isConnectorNamed || this.#chance.is(0.5);
    return (isOneByOne ? stored.map((each) => [each]) : [stored]).map(chunksEvent);
  }

  #storeSome(): WireEvent[] {
    const chance = this.#chance;
    // Tokens alone make no key of a connector's where identities are told.
    const isPlain = this.traits.hasConnector || (this.traits.isUnordered && chance.is(0.7));
    const identity = isPlain ? PLAIN : identityOf(chance);
    const chain = this.#chain(chance.below(DOCUMENTS), chance.of(this.traits.chainSizes), identity);
    const isAnywhere = this.traits.isUnordered && chance.is(0.5);
    const starts = chain.flatMap((_, depth) => {
      const before = chain[depth - 1];
      if (isAnywhere) return [depth];
      return depth === 0 || (before !== undefined && this.#ever.has(before.handle)) ? [depth] : [];
    });
    const start = chance.is(0.4) ? 0 : chance.of(starts);
    return this.#store(chain.slice(0, start + chance.between(1, chain.length - start)), start);
  }

  /** Blocks of the chain from `start` on enter the GPU: in each group, or for once in one alone. */
  #store(chain: readonly TruthBlock[], start: number): WireEvent[] {
    const stored = chain.slice(start);
    // Behind one that was never told they have no keys, until it is.
    const areKeysTold =
      start === 0 || this.traits.isUnordered || this.#ever.has(chain[start - 1]?.handle ?? -1n);
    for (const block of stored) {
      this.#ever.set(block.handle, block);
      if (areKeysTold) this.claims.add(block);
    }
    const isPaged = this.traits.engine === "sglang" && this.#chance.is(0.5);
    const runs = isPaged ? stored.map((block) => [block]) : runsOfSize(stored);
    const { fullGroups, isHybrid } = this.traits;
    const groups = this.#chance.is(0.9) ? fullGroups : fullGroups.slice(0, 1);
    const events = groups.flatMap((group) => {
      const lane = { tier: 0, medium: 0, group };
      this.#named.add(group);
      for (const block of stored) this.#add(block, lane);
      return runs.map((run) => this.#storedEvent(run, lane));
    });
    if (!isHybrid) return events;
    const [lane = { tier: 0, medium: 0, group: 0 }] = this.#lanesOf(0);
    const sliding = runs.map((run) => ({
      ...this.#storedEvent(run, lane),
      ...{ group: 1, kind: "sliding_window" },
    }));
    for (const { handle } of stored)
      this.#sliding.set(handle, (this.#sliding.get(handle) ?? 0) + 1);
    return this.#chance.is(0.5) ? [...events, ...sliding] : [...sliding, ...events];
  }

  #storedEvent(run: readonly TruthBlock[], lane: Lane): WireEvent {
    const [first] = run;
    return {
      type: "BlockStored",
      digests: run.map(({ digest }) => digest),
      parent: first?.parent?.digest ?? null,
      tokens: run.flatMap(({ tokens }) => tokens),
      size: first?.size ?? 0,
      medium: this.#mediumOf(lane),
      lora: first?.lora ?? null,
      extras: run.map(({ extras }) => extras),
      ...(this.#areGroupsNamed ? { group: lane.group, kind: "full_attention" } : {}),
    };
  }

  get #areGroupsNamed(): boolean {
    return this.traits.isHybrid || this.traits.fullGroups.length > 1;
  }

  #mediumOf({ tier, medium }: Lane): string {
    const media = this.traits.media[tier] ?? ["GPU"];
    return tier === 0 ? this.#chance.of(media) : (media[medium] ?? "CPU");
  }

  #removeSome(): WireEvent[] {
    const events: WireEvent[] = [];
    const lane = this.#chance.of(this.#lanesOf(0));
    const held = [...this.#held.values()].filter((each) => each.copies(lane) > 0);
    const removed: TruthBlock[] = [];
    for (let count = this.#chance.between(1, 3); count > 0 && held.length > 0; count -= 1) {
      const chosen = this.#chance.of(held);
      if (chosen.copies(lane) === 0) continue;
      chosen.add(lane, -1);
      removed.push(chosen.block);
    }
    const lists = this.#chance.is(0.3) ? [removed] : removed.map((block) => [block]);
    for (const list of lists) {
      if (list.length > 0) events.push(this.#removedEvent(list, lane));
    }
    const slid = [...this.#sliding].filter(([, copies]) => copies > 0);
    if (slid.length > 0 && this.#chance.is(0.5)) {
      const [handle, copies] = this.#chance.of(slid);
      const block = this.#ever.get(handle);
      this.#sliding.set(handle, copies - 1);
      if (block !== undefined) events.push({ ...this.#removedEvent([block], lane), group: 1 });
    }
    return events;
  }

  /** Of blocks that it does not have (any more) in a place, though it may have them in others. */
  #removeAgain(): WireEvent[] {
    const tier = this.traits.hasLowerTiers ? this.#chance.below(MEDIA.length) : 0;
    const lane = this.#chance.of(this.#lanesOf(tier));
    const gone = [...this.#ever.values()].filter(({ handle }) => {
      return (this.#held.get(handle)?.copies(lane) ?? 0) === 0;
    });
    return gone.length === 0 ? [] : [this.#removedEvent([this.#chance.of(gone)], lane)];
  }

  #removedEvent(blocks: readonly TruthBlock[], lane: Lane): WireEvent {
    const digests = blocks.map(({ digest }) => digest);
    return { type: "BlockRemoved", digests, ...this.#placeOf(lane) };
  }

  #placeOf(lane: Lane): Pick<WireEvent, "medium" | "group"> {
    const medium = this.#mediumOf(lane);
    return this.#areGroupsNamed ? { medium, group: lane.group } : { medium };
  }

  #clear(): WireEvent[] {
    const areAll = this.#chance.is(0.5);
    for (const held of this.#held.values()) held.clear((tier) => areAll || tier === 0);
    this.#ever.clear();
    this.#sliding.clear();
    this.#hints.clear();
    return [{ type: "AllBlocksCleared" }, ...(this.#chance.is(0.7) ? this.#storeSome() : [])];
  }

  #offload(): WireEvent[] {
    const known = [...this.#ever.values()];
    if (known.length === 0) return [];
    const tier = this.#chance.between(1, 3);
    const lanes = this.#lanesOf(tier);
    const { medium } = this.#chance.of(lanes);
    const isWhole = this.#chance.is(0.8);
    const chosen = new Set([this.#chance.of(known), this.#chance.of(known)]);
    const blocks = this.#chance.is(0.5) ? [...chosen] : [...chosen].reverse();
    return lanes
      .filter((lane) => lane.medium === medium && (isWhole || lane.group === 0))
      .flatMap((lane) => this.#offloadTo(lane, blocks));
  }

  #offloadTo(lane: Lane, blocks: readonly TruthBlock[]): WireEvent[] {
    for (const block of blocks) this.#add(block, lane);
    const isSelfDescribing = this.traits.engine === "sglang" || this.#chance.is(0.5);
    if (isSelfDescribing) return blocks.map((block) => this.#lowerEvent(block, lane));
    const digests = blocks.map(({ digest }) => digest);
    const nothing = { parent: null, tokens: [], size: 0, lora: null, extras: null };
    return [{ type: "BlockStored", digests, ...nothing, ...this.#placeOf(lane) }];
  }

  /** vLLM never tells extras of lower tiers; SGLang tells the salt as everywhere. */
  #lowerEvent(block: TruthBlock, lane: Lane): WireEvent {
    const event = this.#storedEvent([block], lane);
    if (this.traits.engine === "vllm" && block.extras !== null) this.#untold.add(block.handle);
    return this.traits.engine === "sglang" ? event : { ...event, extras: null };
  }

  #dropLower(): WireEvent[] {
    const lane = this.#chance.of(this.#lanesOf(this.#chance.between(1, 3)));
    const held = [...this.#held.values()].filter((each) => each.copies(lane) > 0);
    if (held.length === 0) return [];
    const chosen = this.#chance.of(held);
    chosen.add(lane, -1);
    return [this.#removedEvent([chosen.block], lane)];
  }

  /** What costs exactness: a parent that was never told, hashes that lack their tokens, the unknown. */
  #sayOdd(): WireEvent[] {
    switch (this.#chance.below(4)) {
      case 0: {
        const [sizes = [1]] = this.traits.chainSizes;
        const identity = { ...PLAIN, salt: "never-told" };
        const chain = this.#chain(this.#chance.below(DOCUMENTS), sizes, identity);
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

  #add(block: TruthBlock, lane: Lane): void {
    const held = this.#held.get(block.handle) ?? new Held(block);
    held.add(lane, 1);
    this.#held.set(block.handle, held);
  }

  #chain(document: number, sizes: readonly number[], identity: Identity): readonly TruthBlock[] {
    const image = this.traits.engine === "vllm" ? identity.image : null;
    const place = { document, sizes, hashSeed: this.#hashSeed };
    const chain = this.#content.chain({ ...identity, image, ...place });
    for (const block of chain) {
      this.#blocks.add(block);
      this.#blockOf.set(block.handle, block);
      this.#keys.add(block.key);
    }
    return chain;
  }
}
