/**
 * The store of record: every holder's blocks by handle, with the event cursors, in LMDB.
 *
 * One row per (holder, handle): key = holder slot u32 BE + handle u64 BE, value = block key u64 LE +
 * copies per tier 4 x u16 LE (16 bytes). Rows and cursors of a flush are one transaction, so that a
 * cursor is never ahead of its data. No token ids, no prompt text. A store of another layout is
 * emptied: the index is a cache of what engines said and can be relearned.
 */
import { mkdirSync } from "node:fs";
import { type Database, open, type RootDatabase } from "lmdb";
import { z } from "zod";
import { KvError, messageOf } from "../core/errors.ts";
import { blockKey, endpointId, type Holder, holderName, isEndpointAddress } from "../core/ids.ts";
import type { DirtyRow, LogCursor, Residency } from "./residency.ts";

/** Layout version of the rows; another one on disk is emptied. */
const LAYOUT = 3;
const ROW_KEY_BYTES = 12;
const ROW_VALUE_BYTES = 16;

const holderRowSchema = z.object({
  slot: z.int().min(0),
  /** Rows of the holder in `blocks`. */
  rows: z.int().min(0),
  endpoint: z.string().refine(isEndpointAddress),
  rank: z.int().min(0),
  cursor: z
    .object({
      state: z.enum(["EXACT", "DEGRADED"]),
      reason: z.string().nullable(),
      epoch: z.int().min(1),
      seq: z.int().min(-1),
      engineMs: z.number().min(0),
      blockSizeTokens: z.int().positive().nullable(),
      model: z.string(),
    })
    .nullable(),
});
type HolderRow = z.infer<typeof holderRowSchema>;

const logCursorSchema = z.object({ stream: z.string(), seq: z.int().min(0) });

export interface RestoreOutcome {
  readonly rows: number;
  readonly holders: number;
  /** Holders that have not as many rows as were written. */
  readonly holdersDamaged: number;
  /** Rows or cursors that could not be read, and were left out. */
  readonly rowsRefused: number;
  /** Whether a store of another layout was found and emptied. */
  readonly isEmptied: boolean;
}

export class LmdbStore {
  readonly #root: RootDatabase<string, string>;
  readonly #blocks: Database<Buffer, Buffer>;
  readonly #holders: Database<string, string>;
  readonly #slots = new Map<string, number>();
  #slotNext = 0;
  /** Whether a store of another layout or key seed was found at opening, and emptied. */
  readonly #isEmptied: boolean;

  /**
   * Opens or creates the store in the folder `path`; throws ERR_STORE_OPEN. Keys of another seed
   * mean nothing here, so such a store is emptied as one of another layout is.
   */
  constructor(path: string, keySeed = 0) {
    try {
      mkdirSync(path, { recursive: true });
      // Values of the root and of `holders` are JSON: readable with any tool, and tiny in number.
      // Parsed here: the library's own parser would throw at a damaged row.
      this.#root = open<string, string>({ path, encoding: "string", maxDbs: 4, noSubdir: false });
      this.#blocks = this.#root.openDB({
        name: "blocks",
        encoding: "binary",
        keyEncoding: "binary",
      });
      this.#holders = this.#root.openDB({ name: "holders", encoding: "string" });
      this.#isEmptied = this.#prepare(JSON.stringify(`${LAYOUT}/${keySeed}`));
    } catch (error) {
      throw new KvError("ERR_STORE_OPEN", `LMDB store at ${path}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /**
   * Fills an empty residency with all that is stored. What cannot be read is deleted: a row left
   * behind could be taken for one of a later holder in its slot. A holder whose rows are not as many
   * as were written is DEGRADED(store-damaged). Cost: about 1 us per row.
   */
  restore(residency: Residency): RestoreOutcome {
    let rowsRefused = 0;
    const logCursorText = this.#root.get("logCursor");
    const logCursor = logCursorSchema.safeParse(parseJson(logCursorText));
    if (logCursor.success) residency.setLogCursor(logCursor.data);
    else if (logCursorText !== undefined) rowsRefused += 1;

    const { holderOfSlot, rowsOfHolder, refusedNames } = this.#restoreHolders(residency);
    const { rows, refusedKeys } = this.#restoreBlocks(residency, holderOfSlot);
    const holdersDamaged = this.#markDamaged(residency, rowsOfHolder);
    rowsRefused += refusedNames.length + refusedKeys.length;
    if (rowsRefused > 0) {
      this.#root.transactionSync(() => {
        for (const name of refusedNames) this.#holders.removeSync(name);
        for (const key of refusedKeys) this.#blocks.removeSync(key);
      });
    }
    return {
      rows,
      holders: holderOfSlot.size,
      holdersDamaged,
      rowsRefused,
      isEmptied: this.#isEmptied,
    };
  }

  #restoreHolders(residency: Residency): {
    readonly holderOfSlot: ReadonlyMap<number, Holder>;
    readonly rowsOfHolder: ReadonlyMap<Holder, number>;
    readonly refusedNames: readonly string[];
  } {
    const holderOfSlot = new Map<number, Holder>();
    const rowsOfHolder = new Map<Holder, number>();
    const refusedNames: string[] = [];
    for (const { key: name, value } of this.#holders.getRange({})) {
      const row = holderRowSchema.safeParse(parseJson(value));
      if (!row.success || holderOfSlot.has(row.data.slot)) {
        refusedNames.push(name);
        continue;
      }
      const { slot, endpoint, rank, cursor } = row.data;
      const holder = { endpointId: endpointId(endpoint), rank };
      holderOfSlot.set(slot, holder);
      rowsOfHolder.set(holder, row.data.rows);
      this.#slots.set(holderName(holder), slot);
      this.#slotNext = Math.max(this.#slotNext, slot + 1);
      if (cursor !== null) residency.setCursor(holder, cursor);
    }
    return { holderOfSlot, rowsOfHolder, refusedNames };
  }

  /** What is lost cannot be told from what was never there, except by its number. */
  #markDamaged(residency: Residency, rowsOfHolder: ReadonlyMap<Holder, number>): number {
    let damaged = 0;
    for (const [holder, rows] of rowsOfHolder) {
      const cursor = residency.cursorOf(holder);
      if (residency.blocksOf(holder) === rows || cursor === null) continue;
      residency.setCursor(holder, { ...cursor, state: "DEGRADED", reason: "store-damaged" });
      damaged += 1;
    }
    return damaged;
  }

  #restoreBlocks(
    residency: Residency,
    holderOfSlot: ReadonlyMap<number, Holder>,
  ): { readonly rows: number; readonly refusedKeys: readonly Buffer[] } {
    const refusedKeys: Buffer[] = [];
    let rows = 0;
    for (const { key, value } of this.#blocks.getRange({})) {
      const isSound = key.length === ROW_KEY_BYTES && value.length === ROW_VALUE_BYTES;
      const holder = isSound ? holderOfSlot.get(key.readUInt32BE(0)) : undefined;
      const copies = isSound ? [8, 10, 12, 14].map((offset) => value.readUInt16LE(offset)) : [];
      if (holder === undefined || copies.every((count) => count === 0)) {
        refusedKeys.push(Buffer.from(key));
        continue;
      }
      const blockOfRow = blockKey(value.readBigUInt64LE(0));
      residency.restore(holder, key.readBigUInt64BE(4), { key: blockOfRow, copies });
      rows += 1;
    }
    return { rows, refusedKeys };
  }

  /**
   * Writes what changed and the cursors, in one transaction. Returns the number of rows; on failure
   * nothing is written, the rows are dirty again, and it throws. Cost: about 5 us a row.
   */
  flush(residency: Residency): number {
    const dirty = residency.takeDirty();
    try {
      // Synchronous: where the disk is full, the library's asynchronous commit ends the process by
      // a rejection that nobody can catch. The disk's own flush overlaps all the same.
      this.#root.transactionSync(() => {
        for (const row of dirty.rows) this.#write(row);
        for (const holder of dirty.forgotten) this.#holders.removeSync(holderName(holder));
        for (const holder of residency.holders()) {
          this.#writeHolder(holder, residency);
        }
        if (residency.logCursor !== null) this.#writeLogCursor(residency.logCursor);
      });
    } catch (error) {
      residency.putBackDirty(dirty);
      throw error;
    }
    return dirty.rows.length;
  }

  async close(): Promise<void> {
    await this.#root.close();
  }

  /** Marks a fresh store; empties a foreign one and says so. */
  #prepare(layout: string): boolean {
    const found = this.#root.get("layout");
    if (found === layout) return false;
    this.#root.transactionSync(() => {
      this.#blocks.clearSync();
      this.#holders.clearSync();
      this.#root.removeSync("logCursor");
      this.#root.putSync("layout", layout);
    });
    return found !== undefined;
  }

  #write({ holder, handle, record }: DirtyRow): void {
    const key = Buffer.alloc(ROW_KEY_BYTES);
    key.writeUInt32BE(this.#slot(holder), 0);
    key.writeBigUInt64BE(handle, 4);
    if (record === null) {
      this.#blocks.removeSync(key);
      return;
    }
    const value = Buffer.alloc(ROW_VALUE_BYTES);
    value.writeBigUInt64LE(record.key, 0);
    for (const [order, copies] of record.copies.entries())
      value.writeUInt16LE(copies, 8 + 2 * order);
    this.#blocks.putSync(key, value);
  }

  #writeHolder(holder: Holder, residency: Residency): void {
    const row: HolderRow = {
      slot: this.#slot(holder),
      rows: residency.blocksOf(holder),
      endpoint: holder.endpointId,
      rank: holder.rank,
      cursor: residency.cursorOf(holder),
    };
    this.#holders.putSync(holderName(holder), JSON.stringify(row));
  }

  #writeLogCursor(cursor: LogCursor): void {
    this.#root.putSync("logCursor", JSON.stringify(cursor));
  }

  #slot(holder: Holder): number {
    const name = holderName(holder);
    let slot = this.#slots.get(name);
    if (slot === undefined) {
      slot = this.#slotNext;
      this.#slotNext += 1;
      this.#slots.set(name, slot);
    }
    return slot;
  }
}

/** Undefined for what is no JSON: no schema here accepts it. */
function parseJson(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
