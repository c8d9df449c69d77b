/**
 * What each holder has, by engine handle: the state that events change and the store keeps.
 *
 * The index is derived from it. A handle's copies are counted per tier, because engines do not
 * de-duplicate: a block stored twice must be removed twice before it is gone. Every holder has its
 * own table, so that a holder that goes away is dropped by its own list.
 */
import type { Holder } from "../core/ids.ts";
import { TIERS, type Tier, tierOrder } from "../tiers/tier.ts";
import type { IndexWriter } from "./block-index.ts";
import { type BlockSpan, spanOf } from "./block-span.ts";
import { COPIES_MAX } from "./copy-counts.ts";
import { type EvictionGuide, Evictor } from "./evictor.ts";
import { type Flush, FlushRounds } from "./flush-rounds.ts";
import { NO_ROW } from "./handle-slots.ts";
import type { HolderCursor, LogCursor } from "./holder-state.ts";
import type { BlockRecord, HeldRows } from "./holder-table.ts";
import { IndexEntries } from "./index-entries.ts";
import { KeyBatch } from "./key-batch.ts";
import { RestoredRows } from "./restored-rows.ts";
import { type Tenant, Tenants } from "./tenants.ts";
import { U64Cell } from "./u64-words.ts";

export type { HolderCursor, HolderState, LogCursor } from "./holder-state.ts";
export type { BlockRecord } from "./holder-table.ts";

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

/** A holder as another replica, or this one before, knew it. */
export interface KnownHolder {
  readonly cursor: HolderCursor | null;
  readonly rows: Iterable<readonly [bigint, BlockRecord]>;
  readonly ambiguous: BigUint64Array;
}

export class Residency {
  readonly #entriesMax: number;
  readonly #entries: IndexEntries;
  readonly #tenants = new Tenants();
  readonly #rounds = new FlushRounds(this.#tenants);
  /** Takes what the store has, instead of events. */
  readonly restored: RestoredRows;
  readonly #cell = new U64Cell();
  /** Keys of one event that enter or leave the index. */
  readonly #batch = new KeyBatch();
  readonly #evictor: Evictor;
  #logCursor: LogCursor | null = null;

  constructor(deps: ResidencyDeps) {
    const { index, entriesMax, guide = null, onEvicted = (): void => {} } = deps;
    this.#entries = new IndexEntries(index);
    this.#entriesMax = entriesMax;
    this.restored = new RestoredRows(this.#tenants, this.#entries);
    this.#evictor = new Evictor({ index, guide, onEvicted, entriesMax, tenants: this.#tenants });
  }

  /** `storedSpan` of lists that are arrays of their own; `parents` and `rows` as there. */
  stored(
    holder: Holder,
    tier: Tier,
    handles: BigUint64Array,
    keys: BigUint64Array,
    { parents, rows }: { readonly parents?: BigUint64Array; readonly rows?: Uint32Array } = {},
  ): number {
    const named = { ...(parents && { parents }), ...(rows && { rows }) };
    return this.storedSpan(holder, tier, spanOf({ handles, keys, ...named }));
  }

  /**
   * Adds one copy of each block; others are evicted for them where the index is full. Returns how many
   * blocks of this holder are lost by that: refused, or evicted. Rows are told where the relay tells all
   * events of this holder here, in their order.
   */
  storedSpan(holder: Holder, tier: Tier, span: BlockSpan): number {
    const tenant = this.#tenants.of(holder);
    if (tier !== "gpu") tenant.hasSeenLowerTiers = true;
    const { table } = tenant;
    const { length } = span;
    const blocksBefore = table.blocks;
    if (this.#entries.total + length > this.#entriesMax) this.#makeRoom(length);
    let lost = blocksBefore - table.blocks;
    const isRoom = this.#entries.total + length <= this.#entriesMax;
    const begun = isRoom ? table.beginNamed(span, tierOrder(tier)) : 0;
    // Mostly all blocks are new to it.
    if (begun === length) lost += this.#entries.enter(tenant, tier, span.keys, span.parents, span);
    else lost += this.#storeEach(tenant, tier, span, begun);
    if (this.#entries.repeated.size > 0) this.#findShared(tenant, tier, span);
    return lost;
  }

  /** Stores blocks of which the first `begun` have begun their rows. Returns how many are lost. */
  #storeEach(tenant: Tenant, tier: Tier, span: BlockSpan, begun: number): number {
    const { table } = tenant;
    const { handles, handlesAt, keys, keysAt, parentsAt, rows, rowsAt, length } = span;
    const order = tierOrder(tier);
    const cell = this.#cell;
    const batch = this.#batch;
    batch.start(length);
    table.touch(handles, handlesAt, length);
    let lost = 0;
    for (let position = 0; position < length; position += 1) {
      if (position >= begun) {
        cell.set(handles[handlesAt + position] ?? 0n);
        const { low, high } = cell;
        const named = rows === undefined ? NO_ROW : (rows[rowsAt + position] ?? NO_ROW);
        const row = table.find(low, high, named);
        const before = row === NO_ROW ? 0 : table.copies(row, order);
        if (row !== NO_ROW && before > 0) {
          if (before < COPIES_MAX) table.setCopies(row, order, before + 1);
          continue;
        }
        if (this.#entries.total + batch.length >= this.#entriesMax) {
          lost += 1;
          continue;
        }
        if (row !== NO_ROW) {
          table.setCopies(row, order, 1);
          batch.push(table.keyLow(row), table.keyHigh(row));
          continue;
        }
        const inserted = table.insert(low, high, named);
        if (inserted === NO_ROW) {
          lost += 1;
          continue;
        }
        cell.set(keys[keysAt + position] ?? 0n);
        table.begin(inserted, order, cell.low, cell.high);
      } else cell.set(keys[keysAt + position] ?? 0n);
      batch.push(cell.low, cell.high);
    }
    const parents = batch.length === length ? span.parents : undefined;
    const part = { length: batch.length, keysAt: 0, parentsAt };
    return lost + this.#entries.enter(tenant, tier, batch.buffer, parents, part);
  }

  /** Takes one copy of each block away. Returns how many were not known in that tier. */
  removed(holder: Holder, tier: Tier, handles: BigUint64Array, rows?: Uint32Array): number {
    const tenant = this.#tenants.of(holder);
    const { table } = tenant;
    const order = tierOrder(tier);
    const cell = this.#cell;
    const batch = this.#batch;
    batch.start(handles.length);
    table.touch(handles, 0, handles.length);
    let unknown = 0;
    for (let position = 0; position < handles.length; position += 1) {
      cell.set(handles[position] ?? 0n);
      const named = rows === undefined ? NO_ROW : (rows[position] ?? NO_ROW);
      const row = table.find(cell.low, cell.high, named);
      const copies = row === NO_ROW ? 0 : table.copies(row, order);
      if (copies === 0) {
        unknown += 1;
        continue;
      }
      if (copies === 1) batch.push(table.keyLow(row), table.keyHigh(row));
      table.setCopies(row, order, copies - 1);
    }
    this.#entries.leave(tenant, tier, batch.keys);
    return unknown;
  }

  /** Two handles have claimed these keys, of which one is gone: nothing is found under them. */
  ambiguous(holder: Holder, keys: BigUint64Array): void {
    const tenant = this.#tenants.of(holder);
    for (const key of keys) this.#entries.disown(tenant, key);
  }

  isAmbiguous(holder: Holder, key: bigint): boolean {
    return this.#tenants.known(holder)?.ambiguous.has(key) === true;
  }

  /** Ambiguous keys of a holder, oldest first. */
  ambiguousKeys(holder: Holder): BigUint64Array {
    return this.#tenants.known(holder)?.ambiguous.all() ?? new BigUint64Array(0);
  }

  /** Keys of all holders that turned out to be ambiguous since the last call. */
  takeAmbiguousFound(): number {
    return this.#entries.takeAmbiguousFound();
  }

  /** The relay has told something that was not taken: its rows are not those of this holder. */
  disregardRows(holder: Holder): void {
    this.#tenants.of(holder).table.own();
  }

  /** Whether a block of this holder was in a tier below the GPU, in this life of its engine. */
  hasSeenLowerTiers(holder: Holder): boolean {
    return this.#tenants.known(holder)?.hasSeenLowerTiers === true;
  }

  /** Drops all blocks of a holder, in every tier. */
  cleared(holder: Holder): void {
    const tenant = this.#tenants.of(holder);
    const { table } = tenant;
    for (const [order, tier] of TIERS.entries()) {
      this.#batch.start(table.blocks);
      for (const row of table.rows()) {
        if (table.copies(row, order) > 0) this.#batch.push(table.keyLow(row), table.keyHigh(row));
      }
      this.#entries.leave(tenant, tier, this.#batch.keys);
    }
    table.clear();
    tenant.isChanged = true;
    tenant.hasSeenLowerTiers = false;
  }

  /** The engine has begun a new life: nothing of the former one counts. */
  startAnew(holder: Holder): void {
    this.cleared(holder);
    this.#tenants.of(holder).ambiguous.clear();
  }

  /** Drops a holder that left the fleet, with its cursor. */
  forget(holder: Holder): void {
    const tenant = this.#tenants.known(holder);
    if (tenant === undefined) return;
    this.cleared(holder);
    this.#rounds.forget(tenant);
    this.#tenants.delete(holder);
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
  replace(holder: Holder, known: KnownHolder): number {
    const { cursor } = known;
    this.startAnew(holder);
    const { ambiguous } = this.#tenants.of(holder);
    ambiguous.restore(known.ambiguous);
    ambiguous.markChanged();
    let refused = 0;
    for (const [handle, { key, copies }] of known.rows) {
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
    return this.#tenants.known(holder)?.cursor ?? null;
  }

  setCursor(holder: Holder, cursor: HolderCursor): void {
    const tenant = this.#tenants.of(holder);
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
    return Array.from(this.#tenants, ({ holder }) => holder);
  }

  /** Distinct handles that a holder has in any tier. */
  blocksOf(holder: Holder): number {
    return this.#tenants.known(holder)?.table.blocks ?? 0;
  }

  /** Sizes of the fleet's blocks, tokens: a prompt is keyed once for each. */
  blockSizes(): ReadonlySet<number> {
    const sizes = new Set<number>();
    for (const { cursor } of this.#tenants) {
      for (const size of cursor?.blockSizesTokens ?? []) sizes.add(size);
    }
    return sizes;
  }

  /** Every (handle, record) of a holder, as of the moment it is read. */
  *records(holder: Holder): Iterable<readonly [bigint, BlockRecord]> {
    const table = this.#tenants.known(holder)?.table;
    if (table === undefined) return;
    for (const row of table.rows()) yield [table.handle(row), table.record(row)];
  }

  /** The same, some rows at a time: about 20 ns each in place of a microsecond. */
  heldRows(holder: Holder): Iterable<HeldRows> {
    return this.#tenants.known(holder)?.table.heldRows() ?? [];
  }

  /** Bytes of the tables of all holders. */
  get byteLength(): number {
    let bytes = 0;
    for (const { table } of this.#tenants) bytes += table.byteLength;
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

  #setCopies(
    holder: Holder,
    { handle, order, copies }: { handle: bigint; order: number; copies: number },
  ): void {
    const { table } = this.#tenants.of(holder);
    this.#cell.set(handle);
    const row = table.find(this.#cell.low, this.#cell.high, NO_ROW);
    if (row !== NO_ROW && table.copies(row, order) > 0) table.setCopies(row, order, copies);
  }

  /** Evicts some more than is needed, so that not every event has to. */
  #makeRoom(entries: number): void {
    const missing = this.#entries.total + entries - this.#entriesMax;
    const spare = Math.ceil(this.#entriesMax * SPARE_SHARE);
    this.#entries.total -= this.#evictor.makeRoom(missing, Math.max(missing, spare));
  }

  /** Disowns those keys that the last event entered for a handle, and that another handle has too. */
  #findShared(tenant: Tenant, tier: Tier, span: BlockSpan): void {
    const { table } = tenant;
    const { handles, handlesAt, rows, rowsAt, length } = span;
    for (let position = 0; position < length; position += 1) {
      this.#cell.set(handles[handlesAt + position] ?? 0n);
      const named = rows?.[rowsAt + position] ?? NO_ROW;
      const row = table.find(this.#cell.low, this.#cell.high, named);
      // What has copies in another tier too is there with that same handle.
      if (row === NO_ROW || !table.isOnlyIn(row, tierOrder(tier))) continue;
      this.#entries.disownIfRepeated(tenant, table.record(row).key);
    }
  }
}
