/**
 * Fills an empty residency from the store, portion by portion, while it is already asked.
 *
 * A holder is DEGRADED(restoring) until its last page is in; one with damaged pages or ambiguous keys, or with another
 * number of blocks than was written, is DEGRADED(store-damaged) from then on, and its pages are written
 * anew; one whose blocks the index has no room for is DEGRADED(index-full). Cost: about 100 ns a block, most of it the index's.
 */
import { endpointId, type Holder } from "../core/ids.ts";
import type { HolderCursor, HolderState } from "./holder-state.ts";
import type { PagePortion, StoreContents, StoredHolder } from "./lmdb-store.ts";
import type { Residency } from "./residency.ts";
import { readPage } from "./store-page.ts";

const RESTORING = { state: "DEGRADED", reason: "restoring" } as const;
const INDEX_FULL = { state: "DEGRADED", reason: "index-full" } as const;
const DAMAGED = { state: "DEGRADED", reason: "store-damaged" } as const;

export interface RestoreOutcome {
  readonly blocks: number;
  readonly holders: number;
  /** Holders of which something is missing. */
  readonly holdersDamaged: number;
  /** Pages that were missing, or not what was written. */
  readonly pagesDamaged: number;
  /** Holders and cursors that could not be read, and were left out. */
  readonly rowsRefused: number;
  /** Whether a store of another layout or key seed was found and emptied. */
  readonly isEmptied: boolean;
}

interface Restoring {
  readonly holder: Holder;
  readonly stored: StoredHolder;
  readonly damagedPages: number[];
  /** Entries that the index had no room for. */
  refused: number;
  isFinished: boolean;
}

export class Restorer {
  readonly #residency: Residency;
  readonly #contents: StoreContents;
  readonly #holders: readonly Restoring[];
  #holdersDamaged = 0;
  #pagesDamaged = 0;

  constructor(contents: StoreContents, residency: Residency) {
    this.#residency = residency;
    this.#contents = contents;
    if (contents.logCursor !== null) residency.restoreLogCursor(contents.logCursor);
    this.#holders = contents.holders.map((stored) => ({
      holder: { endpointId: endpointId(stored.endpoint), rank: stored.rank },
      stored,
      damagedPages: [],
      refused: 0,
      isFinished: false,
    }));
    for (const each of this.#holders) {
      const cursor = marked(each.stored.cursor, RESTORING);
      const { pages, ambiguous } = each.stored;
      const keys = ambiguous ?? new BigUint64Array(0);
      residency.restored.begin(each.holder, { pages, cursor, ambiguous: keys });
      if (each.stored.pages === 0) this.#finish(each);
    }
  }

  /** Takes pages as the store reads them. */
  take({ bytes, pages }: PagePortion): void {
    let start = 0;
    for (const { holder, page, end } of pages) {
      const restoring = this.#holders[holder];
      if (restoring === undefined) continue;
      const rows = end === null ? null : readPage(bytes.subarray(start, end));
      start = end ?? start;
      if (rows === null) restoring.damagedPages.push(page);
      else restoring.refused += this.#residency.restored.page(restoring.holder, page, rows);
      if (page === restoring.stored.pages - 1) this.#finish(restoring);
    }
  }

  /** The store cannot be read to its end: what it had is incomplete. */
  abandon(): void {
    for (const each of this.#holders) if (!each.isFinished) this.#finish(each);
  }

  get outcome(): RestoreOutcome {
    const { rowsRefused, isEmptied } = this.#contents;
    let blocks = 0;
    for (const { holder } of this.#holders) blocks += this.#residency.blocksOf(holder);
    return {
      ...{ blocks, holders: this.#holders.length, rowsRefused, isEmptied },
      ...{ holdersDamaged: this.#holdersDamaged, pagesDamaged: this.#pagesDamaged },
    };
  }

  #finish(restoring: Restoring): void {
    const { holder, stored, damagedPages, refused } = restoring;
    restoring.isFinished = true;
    const residency = this.#residency;
    const isRead = damagedPages.length === 0 && stored.ambiguous !== null;
    const isWhole = isRead && residency.blocksOf(holder) === stored.blocks;
    const found = refused === 0 ? stored.cursor : marked(stored.cursor, INDEX_FULL);
    const cursor = isWhole ? found : marked(stored.cursor, DAMAGED);
    residency.restored.end(holder, { cursor, isWhole, damagedPages });
    if (!isWhole) this.#holdersDamaged += 1;
    this.#pagesDamaged += damagedPages.length;
  }
}

function marked(cursor: HolderCursor | null, state: HolderState): HolderCursor | null {
  return cursor === null ? null : { ...cursor, ...state };
}
