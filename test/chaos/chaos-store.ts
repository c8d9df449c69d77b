/** A store in memory: pages as they would be written, portion by portion, and put back by the restorer. */
import { type Holder, holderName } from "../../src/core/ids.ts";
import type { Flush, HolderFlush } from "../../src/indexer/flush-rounds.ts";
import type { PagePortion, StoredHolder } from "../../src/indexer/lmdb-store.ts";
import type { Residency } from "../../src/indexer/residency.ts";
import { Restorer } from "../../src/indexer/restorer.ts";

interface Stored extends StoredHolder {
  readonly bytesOf: ReadonlyMap<number, Uint8Array>;
}

const NO_KEYS = new BigUint64Array(0);

export class ChaosStore {
  readonly #holders = new Map<string, Stored>();

  write({ forgotten, holders, bytes }: Flush): void {
    for (const holder of forgotten) this.#holders.delete(holderName(holder));
    for (const each of holders) this.#writeHolder(each, bytes);
  }

  /** Fills an empty residency. */
  restore(residency: Residency): void {
    const holders = [...this.#holders.values()];
    const found = { logCursor: null, rowsRefused: 0, isEmptied: false };
    const restorer = new Restorer({ holders, ...found }, residency);
    for (const [holder, { bytesOf, pages }] of holders.entries()) {
      for (let page = 0; page < pages; page += 1) {
        const bytes = bytesOf.get(page);
        restorer.take(portionOf({ holder, page }, bytes));
      }
    }
  }

  #writeHolder(flush: HolderFlush, bytes: Uint8Array): void {
    const { holder, cursor, ambiguous, blocks, pages, changed, ends, start } = flush;
    const name = holderName(holder);
    const before = this.#holders.get(name);
    const bytesOf = new Map([...(before?.bytesOf ?? [])].filter(([page]) => page < pages));
    for (const [at, page] of changed.entries()) {
      bytesOf.set(page, bytes.slice(ends[at - 1] ?? start, ends[at]));
    }
    this.#holders.set(name, {
      ...placeOf(holder),
      ...{ cursor, blocks, pages, bytesOf },
      ambiguous: ambiguous ?? before?.ambiguous ?? NO_KEYS,
    });
  }
}

function placeOf({ endpointId: endpoint, rank }: Holder): Pick<StoredHolder, "endpoint" | "rank"> {
  return { endpoint, rank };
}

function portionOf(
  place: { readonly holder: number; readonly page: number },
  stored: Uint8Array | undefined,
): PagePortion {
  const bytes = Uint8Array.from(stored ?? []);
  return { bytes, pages: [{ ...place, end: stored === undefined ? null : bytes.length }] };
}
