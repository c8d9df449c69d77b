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
import { COPIES_MAX } from "./copy-counts.ts";
import { type EvictionGuide, Evictor } from "./evictor.ts";
import { type Flush, FlushRounds, type Tenant } from "./flush-rounds.ts";
import { NO_ROW } from "./handle-slots.ts";
import type { HolderCursor, LogCursor } from "./holder-state.ts";
import { type BlockRecord, type HeldRows, HolderTable } from "./holder-table.ts";
import { KeyBatch } from "./key-batch.ts";
import { PAGE_ROWS, type PageRows } from "./store-page.ts";
import { U64Cell } from "./u64-words.ts";

export type { HolderCursor, HolderState, LogCursor } from "./holder-state.ts";
export type { BlockRecord } from "./holder-table.ts";

/** The byte of a row with one copy in the GPU tier, as nearly all have. */
const ONE_GPU_COPY = 1;
/** Entries made free at a time, of all. */
const SPARE_SHARE = 1 / 256;

export interface ResidencyDeps {
  readonly index: IndexWriter;
  /** (block, holder, tier) entries; for those beyond, others are evicted. */
  readonly entriesMax: number;
  /** Tells what harms least when it is evicted; default: nothing is asked. */
  readonly guide?: EvictionGuide;
  readonly onEvicted?: (holder: Holder, blocks: number) => void;
}

export class Residency {
  readonly #index: IndexWriter;
  readonly #entriesMax: number;
  readonly #tenants = new Map<string, Tenant>();
  /** The same by identity, because a name costs more than a block. */
  #tenantOf = new WeakMap<Holder, Tenant>();
  readonly #rounds = new FlushRounds(this.#tenants);
  readonly #cell = new U64Cell();
  /** Keys of one event that enter or leave the index. */
  readonly #batch = new KeyBatch();
  readonly #evictor: Evictor;
  #entries = 0;
  #logCursor: LogCursor | null = null;

  constructor(deps: ResidencyDeps) {
    const { index, entriesMax, guide = null, onEvicted = (): void => {} } = deps;
    this.#index = index;
    this.#entriesMax = entriesMax;
    this.#evictor = new Evictor({ index, guide, onEvicted, entriesMax, tenants: this.#tenants });
  }

  /**
   * Adds one copy of each block; others are evicted for them where the index is full. Returns how many
   * blocks of this holder are lost by that: refused, or evicted. `parent` is the key before the first
   * one, where it is known.
   */
  stored(
    holder: Holder,
    tier: Tier,
    handles: BigUint64Array,
    keys: BigUint64Array,
    parent?: BlockKey,
  ): number {
    const tenant = this.#tenant(holder);
    if (tier !== "gpu") tenant.hasSeenLowerTiers = true;
    const { table } = tenant;
    const blocksBefore = table.blocks;
    if (this.#entries + handles.length > this.#entriesMax) this.#makeRoom(handles.length);
    let lost = blocksBefore - table.blocks;
    const order = tierOrder(tier);
    const cell = this.#cell;
    const batch = this.#batch;
    batch.start(handles.length);
    table.touch(handles);
    for (let position = 0; position < handles.length; position += 1) {
      cell.set(handles[position] ?? 0n);
      const { low, high } = cell;
      let row = table.find(low, high);
      const before = row === NO_ROW ? 0 : table.copies(row, order);
      if (before === 0 && this.#entries + batch.length >= this.#entriesMax) {
        lost += 1;
        continue;
      }
      if (row === NO_ROW) {
        row = table.insert(low, high);
        if (row === NO_ROW) {
          lost += 1;
          continue;
        }
        cell.set(keys[position] ?? 0n);
        table.setKey(row, cell.low, cell.high);
      }
      if (before < COPIES_MAX) table.setCopies(row, order, before + 1);
      if (before === 0) batch.push(table.keyLow(row), table.keyHigh(row));
    }
    return lost + this.#enter(holder, tier, batch.keys, parent);
  }

  /** Takes one copy of each block away. Returns how many were not known in that tier. */
  removed(holder: Holder, tier: Tier, handles: BigUint64Array): number {
    const { table } = this.#tenant(holder);
    const order = tierOrder(tier);
    const cell = this.#cell;
    const batch = this.#batch;
    batch.start(handles.length);
    table.touch(handles);
    let unknown = 0;
    for (let position = 0; position < handles.length; position += 1) {
      cell.set(handles[position] ?? 0n);
      const row = table.find(cell.low, cell.high);
      const copies = row === NO_ROW ? 0 : table.copies(row, order);
      if (copies === 0) {
        unknown += 1;
        continue;
      }
      if (copies === 1) batch.push(table.keyLow(row), table.keyHigh(row));
      table.setCopies(row, order, copies - 1);
    }
    this.#leave(holder, tier);
    return unknown;
  }

  /** Gives a block another key. */
  rekeyed(holder: Holder, handle: bigint, key: BlockKey): void {
    const { table } = this.#tenant(holder);
    this.#cell.set(handle);
    const row = table.find(this.#cell.low, this.#cell.high);
    if (row === NO_ROW) return;
    const former = table.record(row).key;
    this.#cell.set(key);
    table.setKey(row, this.#cell.low, this.#cell.high);
    for (const [order, tier] of TIERS.entries()) {
      if (table.copies(row, order) === 0) continue;
      this.#index.remove(holder, tier, former);
      this.#index.store(holder, tier, key);
    }
  }

  /** Whether a block of this holder was in a tier below the GPU, in this life of its engine. */
  hasSeenLowerTiers(holder: Holder): boolean {
    return this.#known(holder)?.hasSeenLowerTiers === true;
  }

  /** Drops all blocks of a holder, in every tier. */
  cleared(holder: Holder): void {
    const tenant = this.#tenant(holder);
    const { table } = tenant;
    for (const [order, tier] of TIERS.entries()) {
      this.#batch.start(table.blocks);
      for (const row of table.rows()) {
        if (table.copies(row, order) > 0) this.#batch.push(table.keyLow(row), table.keyHigh(row));
      }
      this.#leave(holder, tier);
    }
    table.clear();
    tenant.isChanged = true;
    tenant.hasSeenLowerTiers = false;
  }

  /** Drops a holder that left the fleet, with its cursor. */
  forget(holder: Holder): void {
    const tenant = this.#known(holder);
    if (tenant === undefined) return;
    this.cleared(holder);
    this.#rounds.forget(tenant);
    this.#tenants.delete(holderName(holder));
    this.#tenantOf = new WeakMap();
  }

  /** The store has so many pages of a holder; they follow in rising order, and no events meanwhile. */
  beginRestoring(
    holder: Holder,
    { pages, cursor }: { readonly pages: number; readonly cursor: HolderCursor | null },
  ): void {
    const tenant = this.#tenant(holder);
    tenant.table.reserve(pages * PAGE_ROWS);
    tenant.cursor = cursor;
    tenant.isWritten = true;
  }

  /**
   * Puts a page from the store back, without marking it to be written. Returns how many of its entries
   * the index refused.
   */
  restorePage(holder: Holder, page: number, rows: PageRows): number {
    const tenant = this.#tenant(holder);
    const { table } = tenant;
    table.loadPage(page, rows);
    const first = page * PAGE_ROWS;
    // The page goes on where the one before ended, and so do its chains.
    const parent = first === 0 ? undefined : table.record(first - 1).key;
    if (rows.copies.every((copies) => copies === ONE_GPU_COPY)) {
      return this.#enter(holder, "gpu", rows.keys, parent);
    }
    let refused = 0;
    for (const [order, tier] of TIERS.entries()) {
      this.#batch.start(rows.rows);
      for (let row = first; row < first + rows.rows; row += 1) {
        if (table.copies(row, order) > 0) this.#batch.push(table.keyLow(row), table.keyHigh(row));
      }
      if (this.#batch.length > 0 && tier !== "gpu") tenant.hasSeenLowerTiers = true;
      refused += this.#enter(holder, tier, this.#batch.keys, parent);
    }
    return refused;
  }

  /** All pages that could be read were put back; what is not whole is to be written again. */
  endRestoring(
    holder: Holder,
    restored: {
      readonly cursor: HolderCursor | null;
      readonly isWhole: boolean;
      readonly damagedPages: readonly number[];
    },
  ): void {
    const tenant = this.#tenant(holder);
    tenant.table.endLoading();
    tenant.cursor = restored.cursor;
    tenant.isChanged = !restored.isWhole;
    tenant.table.markDirty(restored.damagedPages);
  }

  /** Nothing is in the store any more: all is to be written. */
  writeAll(): void {
    this.#rounds.restart();
  }

  /** The store has this cursor of the event log. */
  restoreLogCursor(cursor: LogCursor): void {
    this.#logCursor = cursor;
    this.#rounds.restored(cursor);
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
    for (const [handle, { key, copies }] of rows) {
      const handles = BigUint64Array.of(handle);
      const keys = BigUint64Array.of(key);
      let isRefused = false;
      for (const [order, tier] of TIERS.entries()) {
        const count = copies[order] ?? 0;
        if (count === 0) continue;
        isRefused = this.stored(holder, tier, handles, keys) > 0 || isRefused;
        this.#setCopies(holder, { handle, order, copies: count });
      }
      if (isRefused) refused += 1;
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
    tenant.isChanged = true;
  }

  get logCursor(): LogCursor | null {
    return this.#logCursor;
  }

  setLogCursor(cursor: LogCursor): void {
    this.#logCursor = cursor;
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
      for (const size of cursor?.blockSizesTokens ?? []) sizes.add(size);
    }
    return sizes;
  }

  /** Every (handle, record) of a holder, as of the moment it is read. */
  *records(holder: Holder): Iterable<readonly [bigint, BlockRecord]> {
    const table = this.#known(holder)?.table;
    if (table === undefined) return;
    for (const row of table.rows()) yield [table.handle(row), table.record(row)];
  }

  /** The same, some rows at a time: about 20 ns each in place of a microsecond. */
  heldRows(holder: Holder): Iterable<HeldRows> {
    return this.#known(holder)?.table.heldRows() ?? [];
  }

  /** Bytes of the tables of all holders. */
  get byteLength(): number {
    let bytes = 0;
    for (const { table } of this.#tenants.values()) bytes += table.byteLength;
    return bytes;
  }

  /** Pages that wait to be written. */
  get dirtyPages(): number {
    return this.#rounds.dirtyPages;
  }

  /** Whether blocks or cursors changed that no flush has taken. */
  get isDirty(): boolean {
    return this.#rounds.isDirty(this.#logCursor);
  }

  /** Takes what is to be written next: about `bytesMax`, or one holder. Copies it, at memory speed. */
  takeFlush(bytesMax: number): Flush {
    return this.#rounds.take(this.#logCursor, bytesMax);
  }

  /** Memory of a flush that was written, for one of the next. */
  giveBack(memory: ArrayBuffer): void {
    this.#rounds.giveBack(memory);
  }

  /** The flush taken last was not written: all of it is to be written again. */
  putBack(flush: Pick<Flush, "forgotten">): void {
    this.#rounds.putBack(flush);
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
      const marks = { isChanged: false, isWritten: false, hasSeenLowerTiers: false };
      tenant = { holder, table: new HolderTable(), cursor: null, ...marks };
      this.#tenants.set(name, tenant);
    }
    this.#tenantOf.set(holder, tenant);
    return tenant;
  }

  #setCopies(
    holder: Holder,
    { handle, order, copies }: { handle: bigint; order: number; copies: number },
  ): void {
    const { table } = this.#tenant(holder);
    this.#cell.set(handle);
    const row = table.find(this.#cell.low, this.#cell.high);
    if (row !== NO_ROW && table.copies(row, order) > 0) table.setCopies(row, order, copies);
  }

  /** Evicts some more than is needed, so that not every event has to. */
  #makeRoom(entries: number): void {
    const missing = this.#entries + entries - this.#entriesMax;
    const spare = Math.ceil(this.#entriesMax * SPARE_SHARE);
    this.#entries -= this.#evictor.makeRoom(missing, Math.max(missing, spare));
  }

  /** Returns how many the index refused: the engine has them, and nobody will find them. */
  #enter(holder: Holder, tier: Tier, keys: BigUint64Array, parent?: bigint): number {
    if (keys.length === 0) return 0;
    this.#entries += keys.length;
    return this.#index.storeMany(holder, tier, keys, parent);
  }

  #leave(holder: Holder, tier: Tier): void {
    const keys = this.#batch.keys;
    if (keys.length === 0) return;
    this.#index.removeMany(holder, tier, keys);
    this.#entries -= keys.length;
  }
}
