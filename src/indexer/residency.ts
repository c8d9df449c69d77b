/**
 * What each holder has, by engine handle: the state that events change and the store keeps.
 *
 * The index is derived from it. A handle's copies are counted per tier, because engines do not
 * de-duplicate: a block stored twice must be removed twice before it is gone. Every holder has its
 * own table, so that a holder that goes away is dropped by its own list.
 */
import { type BlockKey, blockKey, type Holder, holderName } from "../core/ids.ts";
import { TIERS, type Tier, tierOrder } from "../tiers/tier.ts";
import type { IndexWriter } from "./block-index.ts";

/** Copies of a block counted per tier; more are taken as this many. */
export const COPIES_MAX = 65_535;

export interface BlockRecord {
  readonly key: BlockKey;
  /** Copies in each tier, in the order of TIERS. */
  readonly copies: readonly number[];
}

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

interface MutableRecord {
  key: BlockKey;
  copies: number[];
}

interface HolderTable {
  readonly holder: Holder;
  readonly records: Map<bigint, MutableRecord>;
  readonly dirtyHandles: Set<bigint>;
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
  readonly #tables = new Map<string, HolderTable>();
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
    const table = this.#table(holder);
    table.isForgotten = false;
    let refused = 0;
    for (const [position, handle] of handles.entries()) {
      let record = table.records.get(handle);
      const isEntryNew = record === undefined || copiesIn(record, tier) === 0;
      if (isEntryNew && this.#entries >= this.#entriesMax) {
        refused += 1;
        continue;
      }
      if (record === undefined) {
        record = { key: blockKey(keys[position] ?? 0n), copies: [0, 0, 0, 0] };
        table.records.set(handle, record);
      }
      this.#addCopies(table, record, tier, 1);
      this.#touch(table, handle);
    }
    return refused;
  }

  /** Takes one copy of each block away. Returns how many were not known in that tier. */
  removed(holder: Holder, tier: Tier, handles: BigUint64Array): number {
    const table = this.#table(holder);
    let unknown = 0;
    for (const handle of handles) {
      const record = table.records.get(handle);
      if (record === undefined || copiesIn(record, tier) === 0) {
        unknown += 1;
        continue;
      }
      this.#takeCopy(table, record, tier);
      if (record.copies.every((copies) => copies === 0)) table.records.delete(handle);
      this.#touch(table, handle);
    }
    return unknown;
  }

  /** Gives a block another key. */
  rekeyed(holder: Holder, handle: bigint, key: BlockKey): void {
    const table = this.#table(holder);
    const record = table.records.get(handle);
    if (record === undefined) return;
    const former = record.key;
    record.key = key;
    for (const tier of TIERS) {
      if (copiesIn(record, tier) === 0) continue;
      this.#index.remove(holder, tier, former);
      this.#index.store(holder, tier, key);
    }
    this.#touch(table, handle);
  }

  /** Whether a block of this holder was in a tier below the GPU, in this life of its engine. */
  hasSeenLowerTiers(holder: Holder): boolean {
    return this.#tables.get(holderName(holder))?.hasSeenLowerTiers === true;
  }

  /** Drops all blocks of a holder, in every tier. */
  cleared(holder: Holder): void {
    const table = this.#table(holder);
    for (const [handle, record] of table.records) {
      for (const tier of TIERS) {
        if (copiesIn(record, tier) === 0) continue;
        this.#index.remove(holder, tier, record.key);
        this.#entries -= 1;
      }
      this.#touch(table, handle);
    }
    table.records.clear();
    table.hasSeenLowerTiers = false;
  }

  /** Drops a holder that left the fleet, with its cursor. */
  forget(holder: Holder): void {
    this.cleared(holder);
    const table = this.#table(holder);
    table.cursor = null;
    table.isForgotten = true;
    this.#isCursorDirty = true;
  }

  /** Puts a row from the store back, without marking it dirty. */
  restore(holder: Holder, handle: bigint, record: BlockRecord): void {
    const table = this.#table(holder);
    const restored: MutableRecord = { key: record.key, copies: [0, 0, 0, 0] };
    table.records.set(handle, restored);
    for (const tier of TIERS) this.#addCopies(table, restored, tier, copiesIn(record, tier));
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
      this.#touch(this.#table(holder), handle);
    }
    const isWhole = refused === 0 || cursor === null;
    const state = isWhole ? {} : ({ state: "DEGRADED", reason: "index-full" } as const);
    if (cursor !== null) this.setCursor(holder, { ...cursor, ...state });
    return refused;
  }

  cursorOf(holder: Holder): HolderCursor | null {
    return this.#tables.get(holderName(holder))?.cursor ?? null;
  }

  setCursor(holder: Holder, cursor: HolderCursor): void {
    const table = this.#table(holder);
    table.cursor = cursor;
    table.isForgotten = false;
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
    return [...this.#tables.values()].map(({ holder }) => holder);
  }

  /** Distinct handles that a holder has in any tier. */
  blocksOf(holder: Holder): number {
    return this.#tables.get(holderName(holder))?.records.size ?? 0;
  }

  /** Sizes of the fleet's blocks, tokens: a prompt is keyed once for each. */
  blockSizes(): ReadonlySet<number> {
    const sizes = new Set<number>();
    for (const { cursor } of this.#tables.values()) {
      if (cursor !== null && cursor.blockSizeTokens !== null) sizes.add(cursor.blockSizeTokens);
    }
    return sizes;
  }

  /** Every (handle, record) of a holder, as of the moment it is read. */
  records(holder: Holder): Iterable<readonly [bigint, BlockRecord]> {
    return this.#tables.get(holderName(holder))?.records ?? [];
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
    for (const [name, { holder, records, dirtyHandles, isForgotten }] of this.#tables) {
      for (const handle of dirtyHandles) {
        const record = records.get(handle);
        rows.push({
          holder,
          handle,
          record: record === undefined ? null : { key: record.key, copies: [...record.copies] },
        });
      }
      dirtyHandles.clear();
      if (!isForgotten) continue;
      forgotten.push(holder);
      this.#tables.delete(name);
    }
    this.#dirtyRows = 0;
    this.#isCursorDirty = false;
    return { rows, forgotten };
  }

  /** Marks rows dirty again after a write that failed. */
  putBackDirty({ rows, forgotten }: DirtyState): void {
    for (const { holder, handle } of rows) this.#touch(this.#table(holder), handle);
    for (const holder of forgotten) {
      const table = this.#table(holder);
      // One that returned meanwhile stays: its own row replaces that of its former stay.
      table.isForgotten = table.cursor === null && table.records.size === 0;
    }
    this.#isCursorDirty = true;
  }

  #table(holder: Holder): HolderTable {
    const name = holderName(holder);
    let table = this.#tables.get(name);
    if (table === undefined) {
      table = {
        holder,
        records: new Map(),
        dirtyHandles: new Set(),
        cursor: null,
        isForgotten: false,
        hasSeenLowerTiers: false,
      };
      this.#tables.set(name, table);
    }
    return table;
  }

  #addCopies(table: HolderTable, record: MutableRecord, tier: Tier, copies: number): void {
    if (copies === 0) return;
    if (tier !== "gpu") table.hasSeenLowerTiers = true;
    const before = copiesIn(record, tier);
    record.copies[tierOrder(tier)] = Math.min(COPIES_MAX, before + copies);
    if (before > 0) return;
    this.#index.store(table.holder, tier, record.key);
    this.#entries += 1;
  }

  #takeCopy(table: HolderTable, record: MutableRecord, tier: Tier): void {
    const before = copiesIn(record, tier);
    record.copies[tierOrder(tier)] = before - 1;
    if (before > 1) return;
    this.#index.remove(table.holder, tier, record.key);
    this.#entries -= 1;
  }

  #touch(table: HolderTable, handle: bigint): void {
    if (table.dirtyHandles.has(handle)) return;
    table.dirtyHandles.add(handle);
    this.#dirtyRows += 1;
  }
}

function copiesIn(record: BlockRecord, tier: Tier): number {
  return record.copies[tierOrder(tier)] ?? 0;
}
