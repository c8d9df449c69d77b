/**
 * Makes room in a full index where it harms least.
 *
 * Blocks go from a DEGRADED holder if there is one, whose predictions are less good already, else from the
 * largest, which loses the smallest share. There, page after page in turn, those go first that no other
 * holder has: they take the most memory and serve the fewest requests, while what many holders have (the
 * heads of popular prompts) stays to the last. Within a page the last rows go first, as chains lie in their
 * order. Steps are bounded, and the holder says so: it is DEGRADED(index-full) from then on.
 */
import { type Holder, holderName } from "../core/ids.ts";
import { TIERS } from "../tiers/tier.ts";
import type { IndexReader, IndexWriter } from "./block-index.ts";
import type { Tenant } from "./flush-rounds.ts";
import { KeyBatch } from "./key-batch.ts";
import { PAGE_ROWS } from "./store-page.ts";

/** Pages looked at for one event: some milliseconds. */
export const EVICTION_PAGES_MAX = 64;

const INDEX_FULL = { state: "DEGRADED", reason: "index-full" } as const;

export interface EvictorDeps {
  readonly index: IndexWriter;
  /** Tells who else has a block; null: nobody is asked. */
  readonly reader: Pick<IndexReader, "residency"> | null;
  readonly tenants: ReadonlyMap<string, Tenant>;
  readonly onEvicted: (holder: Holder, blocks: number) => void;
}

export class Evictor {
  readonly #deps: EvictorDeps;
  readonly #batch = new KeyBatch();
  /** Where the hand stands in each holder, and whether this turn spares what others have too. */
  readonly #hands = new WeakMap<Tenant, { page: number; sparesShared: boolean }>();

  constructor(deps: EvictorDeps) {
    this.#deps = deps;
  }

  /** Evicts so many entries, as far as EVICTION_PAGES_MAX pages have them; returns how many. */
  makeRoom(entriesMin: number): number {
    const holders = new Set<Tenant>();
    let entries = 0;
    for (let looked = 0; looked < EVICTION_PAGES_MAX && entries < entriesMin; looked += 1) {
      const victim = this.#victim();
      if (victim === null) break;
      const evicted = this.#evictPage(victim, entriesMin - entries);
      if (evicted === 0) continue;
      entries += evicted;
      holders.add(victim);
    }
    for (const victim of holders) {
      if (victim.cursor === null) continue;
      victim.cursor = { ...victim.cursor, ...INDEX_FULL };
      victim.isChanged = true;
    }
    return entries;
  }

  #victim(): Tenant | null {
    let victim: Tenant | null = null;
    for (const tenant of this.#deps.tenants.values()) {
      if (tenant.table.blocks === 0) continue;
      if (victim === null || isBefore(tenant, victim)) victim = tenant;
    }
    return victim;
  }

  /** Evicts from the page under the holder's hand, and moves the hand on. Returns the entries. */
  #evictPage(tenant: Tenant, entriesMin: number): number {
    const { table, holder } = tenant;
    const hand = this.#hands.get(tenant) ?? { page: 0, sparesShared: true };
    this.#hands.set(tenant, hand);
    if (hand.page >= table.pages) {
      hand.page = 0;
      hand.sparesShared = !hand.sparesShared;
    }
    const first = hand.page * PAGE_ROWS;
    hand.page += 1;
    const rows: number[] = [];
    let entries = 0;
    for (let row = first + PAGE_ROWS - 1; row >= first && entries < entriesMin; row -= 1) {
      if (!table.hasRow(row)) continue;
      if (hand.sparesShared && this.#isShared(tenant, row)) continue;
      rows.push(row);
      for (const order of TIERS.keys()) if (table.copies(row, order) > 0) entries += 1;
    }
    for (const [order, tier] of TIERS.entries()) {
      this.#batch.start(rows.length);
      for (const row of rows) {
        if (table.copies(row, order) > 0) this.#batch.push(table.keyLow(row), table.keyHigh(row));
      }
      if (this.#batch.length > 0) this.#deps.index.removeMany(holder, tier, this.#batch.keys);
    }
    for (const row of rows) table.drop(row);
    if (rows.length > 0) this.#deps.onEvicted(holder, rows.length);
    return entries;
  }

  #isShared({ holder, table }: Tenant, row: number): boolean {
    const name = holderName(holder);
    const residency = this.#deps.reader?.residency(table.record(row).key) ?? [];
    return residency.some((each) => holderName(each.holder) !== name);
  }
}

/** DEGRADED before EXACT, then by size, then by name: the same everywhere. */
function isBefore(a: Tenant, b: Tenant): boolean {
  const isDegraded = ({ cursor }: Tenant): boolean => cursor !== null && cursor.state !== "EXACT";
  if (isDegraded(a) !== isDegraded(b)) return isDegraded(a);
  if (a.table.blocks !== b.table.blocks) return a.table.blocks > b.table.blocks;
  return holderName(a.holder) < holderName(b.holder);
}
