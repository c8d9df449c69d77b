/** Names rows as the handle map of a relay does: one for each handle that has copies, freed ones anew. */
import { type Holder, holderName } from "../../src/core/ids.ts";
import type { Residency } from "../../src/indexer/residency.ts";

const NONE = 0xffff_ffff;

interface Names {
  readonly rows: Map<bigint, number>;
  readonly free: number[];
  rowEnd: number;
}

export class RowNames {
  readonly #names = new Map<string, Names>();

  /** Those of blocks that are stored; new handles get some that are free. */
  stored(holder: Holder, handles: BigUint64Array): Uint32Array {
    const names = this.#of(holder);
    return Uint32Array.from(handles, (handle) => {
      const known = names.rows.get(handle);
      if (known !== undefined) return known;
      // Every third row is left out, as if a tombstone had it.
      const row = names.free.shift() ?? names.rowEnd + (names.rowEnd % 3 === 0 ? 1 : 0);
      names.rowEnd = Math.max(names.rowEnd, row + 1);
      names.rows.set(handle, row);
      return row;
    });
  }

  removed(holder: Holder, handles: BigUint64Array): Uint32Array {
    const { rows } = this.#of(holder);
    return Uint32Array.from(handles, (handle) => rows.get(handle) ?? NONE);
  }

  /** Frees the rows of blocks that the residency has no longer. */
  settle(holder: Holder, residency: Residency): void {
    const names = this.#of(holder);
    const held = new Set([...residency.records(holder)].map(([handle]) => handle));
    for (const [handle, row] of names.rows) {
      if (held.has(handle)) continue;
      names.rows.delete(handle);
      names.free.push(row);
    }
  }

  /** A relay that begins anew takes over the rows that the residency has. */
  restore(residency: Residency): void {
    this.#names.clear();
    for (const holder of residency.holders()) {
      const names = this.#of(holder);
      for (const { rows, handles } of residency.heldRows(holder)) {
        for (const [at, handle] of handles.entries()) names.rows.set(handle, rows[at] ?? 0);
        names.rowEnd = (rows.at(-1) ?? 0) + 1;
      }
    }
  }

  #of(holder: Holder): Names {
    const name = holderName(holder);
    const names = this.#names.get(name) ?? { rows: new Map(), free: [], rowEnd: 0 };
    this.#names.set(name, names);
    return names;
  }
}
