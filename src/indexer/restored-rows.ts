/** What the store has of a residency's holders, put back into their tables and the index. */
import type { Holder } from "../core/ids.ts";
import { TIERS } from "../tiers/tier.ts";
import type { HolderCursor } from "./holder-state.ts";
import type { IndexEntries } from "./index-entries.ts";
import { KeyBatch } from "./key-batch.ts";
import { PAGE_ROWS, type PageRows } from "./store-page.ts";
import type { Tenants } from "./tenants.ts";

/** The byte of a row with one copy in the GPU tier, as nearly all have. */
const ONE_GPU_COPY = 1;

export class RestoredRows {
  readonly #tenants: Tenants;
  readonly #entries: IndexEntries;
  readonly #batch = new KeyBatch();

  constructor(tenants: Tenants, entries: IndexEntries) {
    this.#tenants = tenants;
    this.#entries = entries;
  }

  /** The store has so many pages of a holder; they follow in rising order, and no events meanwhile. */
  begin(
    holder: Holder,
    stored: {
      readonly pages: number;
      readonly cursor: HolderCursor | null;
      readonly ambiguous: BigUint64Array;
    },
  ): void {
    const tenant = this.#tenants.of(holder);
    tenant.table.reserve(stored.pages * PAGE_ROWS);
    tenant.cursor = stored.cursor;
    tenant.ambiguous.restore(stored.ambiguous);
    tenant.isWritten = true;
  }

  /**
   * Puts a page from the store back, without marking it to be written. Returns how many of its entries
   * the index refused.
   */
  page(holder: Holder, page: number, rows: PageRows): number {
    const tenant = this.#tenants.of(holder);
    const { table } = tenant;
    table.loadPage(page, rows);
    const first = page * PAGE_ROWS;
    // The page goes on where the one before ended, and so do its chains.
    const parents = new BigUint64Array(rows.rows);
    parents[0] = first === 0 ? 0n : table.record(first - 1).key;
    if (rows.copies.every((copies) => copies === ONE_GPU_COPY)) {
      const refused = this.#entries.enter(tenant, "gpu", rows.keys, parents);
      for (const key of this.#entries.repeated.keys()) this.#entries.disown(tenant, key);
      return refused;
    }
    let refused = 0;
    for (const [order, tier] of TIERS.entries()) {
      this.#batch.start(rows.rows);
      for (let row = first; row < first + rows.rows; row += 1) {
        if (table.copies(row, order) > 0) this.#batch.push(table.keyLow(row), table.keyHigh(row));
      }
      if (this.#batch.length > 0 && tier !== "gpu") tenant.hasSeenLowerTiers = true;
      refused += this.#entries.enter(
        tenant,
        tier,
        this.#batch.keys,
        parents.subarray(0, this.#batch.length),
      );
      if (this.#entries.repeated.size === 0) continue;
      for (let row = first; row < first + rows.rows; row += 1) {
        // Of a row's entries the first one tells.
        if (table.fastestTier(row) === order) {
          this.#entries.disownIfRepeated(tenant, table.record(row).key);
        }
      }
    }
    return refused;
  }

  /** All pages that could be read were put back; what is not whole is to be written again. */
  end(
    holder: Holder,
    restored: {
      readonly cursor: HolderCursor | null;
      readonly isWhole: boolean;
      readonly damagedPages: readonly number[];
    },
  ): void {
    const tenant = this.#tenants.of(holder);
    tenant.cursor = restored.cursor;
    tenant.isChanged = !restored.isWhole;
    tenant.table.markDirty(restored.damagedPages);
  }
}
