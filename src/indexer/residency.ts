/**
 * What each holder has, by engine handle: the state that events change and the store keeps.
 *
 * The index is derived from it. A handle's copies are counted per tier, because engines do not
 * de-duplicate: a block stored twice must be removed twice before it is gone. Every holder has its
 * own table, so that a holder that goes away is dropped by its own list.
 */
import { type BlockKey, type Holder, holderName } from "../core/ids.ts";
import { TIERS, type Tier, tierOrder } from "../tiers/tier.ts";
import type { IndexWriter } from "./block-index.ts";
import { type BlockRecord, HolderTable } from "./holder-table.ts";
import { NO_ID } from "./u64-table.ts";

export type { BlockRecord } from "./holder-table.ts";

/** Copies of a block counted per tier; more are taken as this many. */
export const COPIES_MAX = 65_535;

/**
 * - EXACT: seen from the first event of the engine's life, without a gap
 * - DEGRADED: something was missed; `reason` says what
 */
export interface HolderState {
  readonly state: "EXACT" | "DEGRADED";
  readonly reason: string | null;
}

/** Where a holder's events stand; kept in the same transaction as its blocks. */
export interface HolderCursor extends HolderState {
  /** Life of the engine as the relay counts them, from 1. */
  readonly epoch: number;
  /** Sequence number of the last applied batch; -1 when the engine has said nothing yet. */
  readonly seq: number;
  /** Engine's time of that batch, Unix ms; 0 when unknown. Tells its lives apart. */
  readonly engineMs: number;
  /** Tokens per block, null until a block was stored. */
  readonly blockSizeTokens: number | null;
  /** Model and pool that the blocks were keyed for: another model means other keys. */
  readonly model: string;
}

/** Where the consumer of the event log stands. */
export interface LogCursor {
  /** Creation time of the stream: a recreated stream starts anew. */
  readonly stream: string;
  readonly seq: number;
}

export interface DirtyRow {
  readonly holder: Holder;
  readonly handle: bigint;
  /** Null: the row is to be deleted. */
  readonly record: BlockRecord | null;
}

interface Tenant {
  readonly holder: Holder;
  readonly table: HolderTable;
  cursor: HolderCursor | null;
  isForgotten: boolean;
  hasSeenLowerTiers: boolean;
}

/** What changed since the last flush. */
export interface DirtyState {
  readonly rows: readonly DirtyRow[];
  /** Holders that left the fleet: nothing of them is kept. */
  readonly forgotten: readonly Holder[];
}

export class Residency {
  readonly #index: IndexWriter;
  readonly #entriesMax: number;
  readonly #tenants = new Map<string, Tenant>();
  /** The same by identity, because a name costs more than a block. */
  #tenantOf = new WeakMap<Holder, Tenant>();
  #entries = 0;
  #dirtyRows = 0;
  #isCursorDirty = false;
  #logCursor: LogCursor | null = null;

  constructor(deps: { readonly index: IndexWriter; readonly entriesMax: number }) {
    this.#index = deps.index;
    this.#entriesMax = deps.entriesMax;
  }

  /** Adds one copy of each block. Returns how many were refused at the limit of entries. */
  stored(holder: Holder, tier: Tier, handles: BigUint64Array, keys: BigUint64Array): number {
    const tenant = this.#tenant(holder);
    const { table } = tenant;
    const order = tierOrder(tier);
    tenant.isForgotten = false;
    let refused = 0;
    for (let position = 0; position < handles.length; position += 1) {
      const handle = handles[position] ?? 0n;
      let row = table.find(handle);
      const isEntryNew = row === NO_ID || table.copies(row, order) === 0;
      if (isEntryNew && this.#entries >= this.#entriesMax) {
        refused += 1;
        continue;
      }
      if (row === NO_ID) row = table.insert(handle);
      if (isEntryNew && !table.hasCopies(row)) table.setKey(row, keys[position] ?? 0n);
      this.#addCopies(tenant, { row, tier }, 1);
      this.#touch(table, row);
    }
    return refused;
  }

  /** Takes one copy of each block away. Returns how many were not known in that tier. */
  removed(holder: Holder, tier: Tier, handles: BigUint64Array): number {
    const tenant = this.#tenant(holder);
    const { table } = tenant;
    const order = tierOrder(tier);
    let unknown = 0;
    for (let position = 0; position < handles.length; position += 1) {
      const row = table.find(handles[position] ?? 0n);
      const copies = row === NO_ID ? 0 : table.copies(row, order);
      if (copies === 0) {
        unknown += 1;
        continue;
      }
      table.setCopies(row, order, copies - 1);
      if (copies === 1) this.#dropEntry(tenant, { row, tier });
      this.#touch(table, row);
    }
    return unknown;
  }

  /** Gives a block another key. */
  rekeyed(holder: Holder, handle: bigint, key: BlockKey): void {
    const { table } = this.#tenant(holder);
    const row = table.find(handle);
    if (row === NO_ID || !table.hasCopies(row)) return;
    const former = table.key(row);
    table.setKey(row, key);
    for (const [order, tier] of TIERS.entries()) {
      if (table.copies(row, order) === 0) continue;
      this.#index.remove(holder, tier, former);
      this.#index.store(holder, tier, key);
    }
    this.#touch(table, row);
  }

  /** Whether a block of this holder was in a tier below the GPU, in this life of its engine. */
  hasSeenLowerTiers(holder: Holder): boolean {
    return this.#known(holder)?.hasSeenLowerTiers === true;
  }

  /** Drops all blocks of a holder, in every tier. */
  cleared(holder: Holder): void {
    const tenant = this.#tenant(holder);
    const { table } = tenant;
    for (const row of table.rows()) {
      for (const [order, tier] of TIERS.entries()) {
        if (table.copies(row, order) === 0) continue;
        table.setCopies(row, order, 0);
        this.#dropEntry(tenant, { row, tier });
      }
      this.#touch(table, row);
    }
    tenant.hasSeenLowerTiers = false;
  }

  /** Drops a holder that left the fleet, with its cursor. */
  forget(holder: Holder): void {
    this.cleared(holder);
    const tenant = this.#tenant(holder);
    tenant.cursor = null;
    tenant.isForgotten = true;
    this.#isCursorDirty = true;
  }

  /** Puts a row from the store back, without marking it dirty. */
  restore(holder: Holder, handle: bigint, record: BlockRecord): void {
    const tenant = this.#tenant(holder);
    const { table } = tenant;
    const found = table.find(handle);
    const row = found === NO_ID ? table.insert(handle) : found;
    table.setKey(row, record.key);
    for (const [order, tier] of TIERS.entries()) {
      this.#addCopies(tenant, { row, tier }, record.copies[order] ?? 0);
    }
  }

  /**
   * Replaces all that is known of a holder, as another replica knew it. Returns how many rows were
   * refused at the limit of entries.
   */
  replace(
    holder: Holder,
    rows: Iterable<readonly [bigint, BlockRecord]>,
    cursor: HolderCursor | null,
  ): number {
    this.cleared(holder);
    let refused = 0;
    for (const [handle, record] of rows) {
      if (this.#entries >= this.#entriesMax) {
        refused += 1;
        continue;
      }
      this.restore(holder, handle, record);
      const { table } = this.#tenant(holder);
      this.#touch(table, table.find(handle));
    }
    const isWhole = refused === 0 || cursor === null;
    const state = isWhole ? {} : ({ state: "DEGRADED", reason: "index-full" } as const);
    if (cursor !== null) this.setCursor(holder, { ...cursor, ...state });
    return refused;
  }

  cursorOf(holder: Holder): HolderCursor | null {
    return this.#known(holder)?.cursor ?? null;
  }

  setCursor(holder: Holder, cursor: HolderCursor): void {
    const tenant = this.#tenant(holder);
    tenant.cursor = cursor;
    tenant.isForgotten = false;
    this.#isCursorDirty = true;
  }

  get logCursor(): LogCursor | null {
    return this.#logCursor;
  }

  setLogCursor(cursor: LogCursor): void {
    this.#logCursor = cursor;
    this.#isCursorDirty = true;
  }

  holders(): Holder[] {
    return [...this.#tenants.values()].map(({ holder }) => holder);
  }

  /** Distinct handles that a holder has in any tier. */
  blocksOf(holder: Holder): number {
    return this.#known(holder)?.table.blocks ?? 0;
  }

  /** Sizes of the fleet's blocks, tokens: a prompt is keyed once for each. */
  blockSizes(): ReadonlySet<number> {
    const sizes = new Set<number>();
    for (const { cursor } of this.#tenants.values()) {
      if (cursor !== null && cursor.blockSizeTokens !== null) sizes.add(cursor.blockSizeTokens);
    }
    return sizes;
  }

  /** Every (handle, record) of a holder, as of the moment it is read. */
  *records(holder: Holder): Iterable<readonly [bigint, BlockRecord]> {
    const table = this.#known(holder)?.table;
    if (table === undefined) return;
    for (const row of table.rows()) yield [table.handle(row), table.record(row)];
  }

  /** Bytes of the tables of all holders. */
  get byteLength(): number {
    let bytes = 0;
    for (const { table } of this.#tenants.values()) bytes += table.byteLength;
    return bytes;
  }

  get dirtyRows(): number {
    return this.#dirtyRows;
  }

  /** Whether blocks or cursors changed since the last `takeDirty`. */
  get isDirty(): boolean {
    return this.#dirtyRows > 0 || this.#isCursorDirty;
  }

  /** Hands over what changed since the last call; the caller writes it with the cursors. */
  takeDirty(): DirtyState {
    const rows: DirtyRow[] = [];
    const forgotten: Holder[] = [];
    for (const [name, { holder, table, isForgotten }] of this.#tenants) {
      table.takeDirty((row) => {
        const record = table.hasCopies(row) ? table.record(row) : null;
        rows.push({ holder, handle: table.handle(row), record });
      });
      if (!isForgotten) continue;
      forgotten.push(holder);
      this.#tenants.delete(name);
      this.#tenantOf = new WeakMap();
    }
    this.#dirtyRows = 0;
    this.#isCursorDirty = false;
    return { rows, forgotten };
  }

  /** Marks rows dirty again after a write that failed. */
  putBackDirty({ rows, forgotten }: DirtyState): void {
    for (const { holder, handle } of rows) {
      const { table } = this.#tenant(holder);
      const row = table.find(handle);
      this.#touch(table, row === NO_ID ? table.insert(handle) : row);
    }
    for (const holder of forgotten) {
      const tenant = this.#tenant(holder);
      // One that returned meanwhile stays: its own row replaces that of its former stay.
      tenant.isForgotten = tenant.cursor === null && tenant.table.blocks === 0;
    }
    this.#isCursorDirty = true;
  }

  #known(holder: Holder): Tenant | undefined {
    return this.#tenantOf.get(holder) ?? this.#tenants.get(holderName(holder));
  }

  #tenant(holder: Holder): Tenant {
    const known = this.#tenantOf.get(holder);
    if (known !== undefined) return known;
    const name = holderName(holder);
    let tenant = this.#tenants.get(name);
    if (tenant === undefined) {
      tenant = {
        ...{ holder, table: new HolderTable(), cursor: null },
        ...{ isForgotten: false, hasSeenLowerTiers: false },
      };
      this.#tenants.set(name, tenant);
    }
    this.#tenantOf.set(holder, tenant);
    return tenant;
  }

  #addCopies(tenant: Tenant, { row, tier }: Entry, copies: number): void {
    if (copies === 0) return;
    const { holder, table } = tenant;
    if (tier !== "gpu") tenant.hasSeenLowerTiers = true;
    const order = tierOrder(tier);
    const before = table.copies(row, order);
    table.setCopies(row, order, Math.min(COPIES_MAX, before + copies));
    if (before > 0) return;
    this.#index.store(holder, tier, table.key(row));
    this.#entries += 1;
  }

  #dropEntry({ holder, table }: Tenant, { row, tier }: Entry): void {
    this.#index.remove(holder, tier, table.key(row));
    this.#entries -= 1;
  }

  #touch(table: HolderTable, row: number): void {
    if (table.touch(row)) this.#dirtyRows += 1;
  }
}

interface Entry {
  readonly row: number;
  readonly tier: Tier;
}
