/**
 * Makes room in a full index where it harms least.
 *
 * A hand goes round the pages of every holder, all hands at the same share of their way, so that each
 * holder loses alike. Of what lies under them, blocks go first that no prompt has asked for of late and
 * no other holder has; then what others have too, and only as far as there is no room without it,
 * blocks that prompts do ask for. Within a page the last rows go first, as chains lie in their order. Steps
 * are bounded, and a holder that loses blocks says so: it is DEGRADED(index-full) from then on.
 */
import { type Holder, holderName } from "../core/ids.ts";
import { TIERS } from "../tiers/tier.ts";
import type { IndexWriter } from "./block-index.ts";
import { KeyBatch } from "./key-batch.ts";
import { PAGE_ROWS } from "./store-page.ts";
import type { Tenant, Tenants } from "./tenants.ts";

/** Pages looked at for one event: some milliseconds. */
export const EVICTION_PAGES_MAX = 64;
/** Share of the index's entries that goes in an epoch, and epochs in which what was asked for is spared. */
const EPOCH_SHARE = 1 / 8;
const EPOCHS_SPARED = 8;
/** Where blocks that are asked for have to go, so many of those looked at go together. */
const WANTED_SHARE = 1 / 8;

const INDEX_FULL = { state: "DEGRADED", reason: "index-full" } as const;

/** What speaks against evicting a block, the least first. */
export const ALONE = 0;
export const SHARED = 1;
export const WANTED = 2;
const STANDING_MAX = SHARED + WANTED;

export interface EvictionGuide {
  /**
   * ALONE, or the sum of SHARED, where several holders have the key, and WANTED, where prompts were
   * matched up to it in this epoch or one of the `epochs` - 1 before.
   */
  standing(key: bigint, epochs: number): number;
  beginEpoch(): void;
}

export interface EvictorDeps {
  readonly index: IndexWriter;
  /** Null: nobody is asked. */
  readonly guide: EvictionGuide | null;
  readonly tenants: Tenants;
  readonly entriesMax: number;
  readonly onEvicted: (holder: Holder, blocks: number) => void;
}

/** A hand's way round the pages of its holder. */
interface Hand {
  page: number;
  /** Ways round so far; pages count as parts of one. */
  turns: number;
}

interface Looked {
  readonly victim: Tenant;
  readonly page: number;
}

export class Evictor {
  readonly #deps: EvictorDeps;
  readonly #batch = new KeyBatch();
  readonly #hands = new WeakMap<Tenant, Hand>();
  /** The furthest that any hand has come. */
  #turnsMax = 0;
  #entriesOfEpoch = 0;

  constructor(deps: EvictorDeps) {
    this.#deps = deps;
  }

  /**
   * Evicts up to `entriesMax` entries, in any case as many as are `needed`, as far as
   * EVICTION_PAGES_MAX pages have them; returns how many.
   */
  makeRoom(needed: number, entriesMax: number): number {
    const looked: Looked[] = [];
    const losers = new Set<Tenant>();
    let entries = 0;
    const evict = (page: Looked, standing: number, most: number): void => {
      const evicted = this.#evictFrom(page, standing, most - entries);
      if (evicted > 0) losers.add(page.victim);
      entries += evicted;
    };
    while (looked.length < EVICTION_PAGES_MAX && entries < entriesMax) {
      const page = this.#nextPage();
      if (page === null) break;
      looked.push(page);
      evict(page, ALONE, entriesMax);
    }
    const enough = Math.max(needed, Math.ceil(WANTED_SHARE * PAGE_ROWS * looked.length));
    for (let standing = SHARED; standing <= STANDING_MAX && entries < needed; standing += 1) {
      for (const page of looked) evict(page, standing, Math.min(enough, entriesMax));
    }
    this.#count(entries);
    for (const victim of losers) {
      if (victim.cursor === null) continue;
      victim.cursor = { ...victim.cursor, ...INDEX_FULL };
      victim.isChanged = true;
    }
    return entries;
  }

  #count(entries: number): void {
    this.#entriesOfEpoch += entries;
    if (this.#entriesOfEpoch < EPOCH_SHARE * this.#deps.entriesMax) return;
    this.#entriesOfEpoch = 0;
    this.#deps.guide?.beginEpoch();
  }

  /** The page under the hand that is furthest behind, which moves on; null: nobody has blocks. */
  #nextPage(): Looked | null {
    let victim: Tenant | null = null;
    for (const tenant of this.#deps.tenants) {
      if (tenant.table.blocks === 0) continue;
      if (victim === null || this.#isBefore(tenant, victim)) victim = tenant;
    }
    if (victim === null) return null;
    const hand = this.#handOf(victim);
    if (hand.page >= victim.table.pages) hand.page = 0;
    const { page } = hand;
    hand.page += 1;
    hand.turns += 1 / victim.table.pages;
    this.#turnsMax = Math.max(this.#turnsMax, hand.turns);
    return { victim, page };
  }

  /** By how far their hands are, then the larger one, then by name: the same everywhere. */
  #isBefore(a: Tenant, b: Tenant): boolean {
    const ahead = this.#handOf(a).turns - this.#handOf(b).turns;
    if (ahead !== 0) return ahead < 0;
    if (a.table.blocks !== b.table.blocks) return a.table.blocks > b.table.blocks;
    return holderName(a.holder) < holderName(b.holder);
  }

  /** Of a holder that is new, as far as the furthest: it is not the next to lose. */
  #handOf(tenant: Tenant): Hand {
    let hand = this.#hands.get(tenant);
    if (hand === undefined) {
      hand = { page: 0, turns: this.#turnsMax };
      this.#hands.set(tenant, hand);
    }
    return hand;
  }

  /** Evicts blocks of a page that stand no better. Returns the entries. */
  #evictFrom({ victim, page }: Looked, standing: number, entriesMax: number): number {
    const { table, holder } = victim;
    const first = page * PAGE_ROWS;
    const rows: number[] = [];
    let entries = 0;
    for (let row = first + PAGE_ROWS - 1; row >= first && entries < entriesMax; row -= 1) {
      if (!table.hasRow(row)) continue;
      if (this.#standingOf(victim, row) > standing) continue;
      rows.push(row);
      for (const order of TIERS.keys()) if (table.copies(row, order) > 0) entries += 1;
    }
    if (rows.length === 0) return 0;
    for (const [order, tier] of TIERS.entries()) {
      this.#batch.start(rows.length);
      for (const row of rows) {
        if (table.copies(row, order) > 0) this.#batch.push(table.keyLow(row), table.keyHigh(row));
      }
      if (this.#batch.length > 0) this.#deps.index.removeMany(holder, tier, this.#batch.keys);
    }
    for (const row of rows) table.drop(row);
    this.#deps.onEvicted(holder, rows.length);
    return entries;
  }

  #standingOf({ table }: Tenant, row: number): number {
    return this.#deps.guide?.standing(table.record(row).key, EPOCHS_SPARED) ?? ALONE;
  }
}
