/** The store without its thread: read and written at once. */
import type { LmdbStore } from "../../src/indexer/lmdb-store.ts";
import type { Residency } from "../../src/indexer/residency.ts";
import { type RestoreOutcome, Restorer } from "../../src/indexer/restorer.ts";

const BYTES_MAX = 2 ** 20;

/** Fills an empty residency with all that is stored. */
export function restoreFrom(
  store: LmdbStore,
  residency: Residency,
  bytesMax: number = BYTES_MAX,
): RestoreOutcome {
  const restorer = new Restorer(store.contents, residency);
  for (;;) {
    const portion = store.read(bytesMax);
    if (portion === null) return restorer.outcome;
    restorer.take(portion);
  }
}

/** Writes all that changed; returns how many pages. What cannot be written is put back, and it throws. */
export function flushTo(
  store: LmdbStore,
  residency: Residency,
  bytesMax: number = BYTES_MAX,
): number {
  let pages = 0;
  while (residency.isDirty) {
    const flush = residency.takeFlush(bytesMax);
    try {
      store.write(flush);
    } catch (error) {
      residency.putBack(flush);
      throw error;
    }
    for (const { changed } of flush.holders) pages += changed.length;
  }
  return pages;
}
