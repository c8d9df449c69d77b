/**
 * What the store has to write: changed pages and cursors, in portions of bounded size.
 *
 * A portion holds whole holders, each with the cursor that fits its pages, so that a transaction of one
 * portion leaves no cursor ahead of its data. The log's cursor must not be ahead of any holder: it is
 * that of the round's beginning, and goes with the portion that ends the round. Nothing is queued: a
 * page that changes ten times before it is written is written once.
 */
import { type Holder, holderName } from "../core/ids.ts";
import type { HolderCursor, LogCursor } from "./holder-state.ts";
import { writePage } from "./store-page.ts";
import type { Tenant, Tenants } from "./tenants.ts";

/** Memory of a written portion that is kept for the next ones, at most. */
const SPARE_BYTES_MAX = 16_777_216;

export interface HolderFlush {
  readonly holder: Holder;
  readonly cursor: HolderCursor | null;
  /** Its ambiguous keys; null: as they were written last. */
  readonly ambiguous: BigUint64Array | null;
  /** Rows with copies in all its pages. */
  readonly blocks: number;
  /** Pages that it has; the store drops those behind. */
  readonly pages: number;
  /** Numbers of the pages that are written. */
  readonly changed: readonly number[];
  /** Where they begin in the bytes of the flush, and where each of them ends. */
  readonly start: number;
  readonly ends: readonly number[];
}

/** One portion; plain data, its bytes can be handed to another thread. */
export interface Flush {
  /** Holders that left: nothing of them is kept. They are dropped before the others are written. */
  readonly forgotten: readonly Holder[];
  readonly holders: readonly HolderFlush[];
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Null: the log's cursor stays what it is. */
  readonly logCursor: LogCursor | null;
  /** Whether nothing of what had changed at the round's beginning is left. */
  readonly isRoundEnd: boolean;
}

export class FlushRounds {
  readonly #tenants: Tenants;
  #forgotten = new Map<string, Holder>();
  /** As the store has it. */
  #logCursor: LogCursor | null = null;
  #round: { readonly logCursor: LogCursor | null; readonly waiting: Set<Tenant> } | null = null;
  /** Memory of a portion that was written: what is handed to another thread is freed late there. */
  #spare = new ArrayBuffer(0);
  /** What the last portion took, to be put back if it is not written. */
  #taken: readonly {
    readonly tenant: Tenant;
    readonly pages: readonly number[];
    readonly hasAmbiguous: boolean;
  }[] = [];

  constructor(tenants: Tenants) {
    this.#tenants = tenants;
  }

  /** Nothing of a holder is to be kept. */
  forget({ holder, isWritten }: Tenant): void {
    if (isWritten) this.#forgotten.set(holderName(holder), holder);
  }

  /** Pages to be written. */
  get dirtyPages(): number {
    let pages = 0;
    for (const { table } of this.#tenants) pages += table.dirtyPages;
    return pages;
  }

  /** Whether anything is to be written. */
  isDirty(logCursor: LogCursor | null): boolean {
    if (this.#forgotten.size > 0 || this.#round !== null) return true;
    if (logCursor !== this.#logCursor) return true;
    for (const tenant of this.#tenants) if (isDirty(tenant)) return true;
    return false;
  }

  /** Takes the next portion: holders until they have `bytesMax`, at least one. */
  take(logCursor: LogCursor | null, bytesMax: number): Flush {
    this.#round ??= { logCursor, waiting: new Set([...this.#tenants].filter(isDirty)) };
    const { waiting } = this.#round;
    const taken: Tenant[] = [];
    let bytes = 0;
    for (const tenant of waiting) {
      const more = tenant.table.dirtyBytesMax;
      if (bytes > 0 && bytes + more > bytesMax) break;
      waiting.delete(tenant);
      // One that left since is among those to be dropped.
      if (this.#tenants.known(tenant.holder) === tenant) taken.push(tenant);
      bytes += more;
    }
    const isRoundEnd = waiting.size === 0;
    const forgotten = [...this.#forgotten.values()];
    const target = this.#memory(bytes);
    let end = 0;
    const holders = taken.map((tenant): HolderFlush => {
      const flush = copyHolder(tenant, target, end);
      end = flush.ends.at(-1) ?? end;
      return flush;
    });
    this.#taken = taken.map((tenant, at) => ({
      tenant,
      pages: holders[at]?.changed ?? [],
      hasAmbiguous: holders[at]?.ambiguous != null,
    }));
    this.#forgotten = new Map();
    const flush = { forgotten, holders, isRoundEnd, bytes: target.subarray(0, end) };
    if (!isRoundEnd) return { ...flush, logCursor: null };
    this.#logCursor = this.#round.logCursor;
    this.#round = null;
    return { ...flush, logCursor: this.#logCursor };
  }

  /** Memory of a portion that was written, for one of the next. */
  giveBack(memory: ArrayBuffer): void {
    if (memory.byteLength <= SPARE_BYTES_MAX) this.#spare = memory;
  }

  /** The last portion was not written: all of it is to be written again. */
  putBack({ forgotten }: Pick<Flush, "forgotten">): void {
    this.#forgotten = new Map([
      ...forgotten.map((holder) => [holderName(holder), holder] as const),
      ...this.#forgotten,
    ]);
    for (const { tenant, pages, hasAmbiguous } of this.#taken) {
      tenant.table.markDirty(pages);
      if (hasAmbiguous) tenant.ambiguous.markChanged();
      tenant.isChanged = true;
    }
    this.#taken = [];
    this.#round = null;
    this.#logCursor = null;
  }

  /** The store is empty: everything is to be written. */
  restart(): void {
    this.#forgotten = new Map();
    this.#taken = [];
    this.#round = null;
    this.#logCursor = null;
    for (const tenant of this.#tenants) {
      tenant.table.markDirty(Array.from({ length: tenant.table.pages }, (_, page) => page));
      tenant.ambiguous.markChanged();
      tenant.isChanged = true;
    }
  }

  /** The store has this cursor. */
  restored(logCursor: LogCursor | null): void {
    this.#logCursor = logCursor;
  }

  /** At least so many bytes, of any content. */
  #memory(bytes: number): Uint8Array<ArrayBuffer> {
    const spare = this.#spare;
    this.#spare = new ArrayBuffer(0);
    if (spare.byteLength >= bytes) return new Uint8Array(spare);
    // Rounded up where it is kept, so that portions of about one size need it once.
    const isKept = bytes <= SPARE_BYTES_MAX;
    const size = isKept ? 2 ** Math.ceil(Math.log2(Math.max(1, bytes))) : bytes;
    return new Uint8Array(Buffer.allocUnsafeSlow(size).buffer);
  }
}

function isDirty({ table, isChanged }: Tenant): boolean {
  return isChanged || table.dirtyPages > 0;
}

function copyHolder(tenant: Tenant, target: Uint8Array, offset: number): HolderFlush {
  const { holder, table, cursor } = tenant;
  const { columns, pages, blocks } = table;
  const changed = table.takeDirtyPages();
  const ends: number[] = [];
  let end = offset;
  for (const page of changed) {
    end = writePage(columns, page, target, end);
    ends.push(end);
  }
  tenant.isChanged = false;
  tenant.isWritten = true;
  const ambiguous = tenant.ambiguous.takeChanged();
  return { holder, cursor, ambiguous, blocks, pages, changed, start: offset, ends };
}
