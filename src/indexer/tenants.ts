/** The holders that a residency knows, each with its blocks. */
import { type Holder, holderName } from "../core/ids.ts";
import { AmbiguousKeys } from "./ambiguous-keys.ts";
import type { HolderCursor } from "./holder-state.ts";
import { HolderTable } from "./holder-table.ts";

/** A holder with its blocks. */
export interface Tenant {
  readonly holder: Holder;
  readonly table: HolderTable;
  readonly ambiguous: AmbiguousKeys;
  cursor: HolderCursor | null;
  /** Whether the cursor or the number of pages changed since it was written. */
  isChanged: boolean;
  /** Whether the store may have something of it. */
  isWritten: boolean;
  hasSeenLowerTiers: boolean;
}

export class Tenants implements Iterable<Tenant> {
  readonly #byName = new Map<string, Tenant>();
  /** The same by identity, because a name costs more than a block. */
  #byHolder = new WeakMap<Holder, Tenant>();
  /** The one asked for last, which mostly is the next one too. */
  #last: Tenant | null = null;

  [Symbol.iterator](): IterableIterator<Tenant> {
    return this.#byName.values();
  }

  known(holder: Holder): Tenant | undefined {
    if (this.#last?.holder === holder) return this.#last;
    return this.#byHolder.get(holder) ?? this.#byName.get(holderName(holder));
  }

  /** A holder that is not known has nothing yet. */
  of(holder: Holder): Tenant {
    if (this.#last?.holder === holder) return this.#last;
    const known = this.#byHolder.get(holder);
    if (known !== undefined) {
      this.#last = known;
      return known;
    }
    const name = holderName(holder);
    const tenant = this.#byName.get(name) ?? emptyTenant(holder);
    this.#byName.set(name, tenant);
    this.#byHolder.set(holder, tenant);
    return tenant;
  }

  delete(holder: Holder): void {
    this.#byName.delete(holderName(holder));
    this.#byHolder = new WeakMap();
    this.#last = null;
  }
}

function emptyTenant(holder: Holder): Tenant {
  return {
    holder,
    table: new HolderTable(),
    ambiguous: new AmbiguousKeys(),
    cursor: null,
    isChanged: false,
    isWritten: false,
    hasSeenLowerTiers: false,
  };
}
