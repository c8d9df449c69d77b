/**
 * The store of record: every holder's blocks in pages of rows, with the event cursors, in LMDB.
 *
 * | database  | key                                  | value                                             |
 * | --------- | ------------------------------------ | ------------------------------------------------- |
 * | `blocks`  | holder slot u32 BE, page number u32 BE | page of rows: store-page.ts                     |
 * | `holders` | "ip:port#rank"                       | checksum, then JSON: slot, pages, blocks, cursor  |
 * | `ambiguous` | "ip:port#rank"                     | checksum u32, then keys u64, little endian        |
 * | root      | `layout`, `owner`, `logCursor`       | layout with key seed; who writes; checksum, JSON  |
 *
 * Pages and cursors of a flush are one transaction, so that a cursor is never ahead of its data. No
 * token ids, no prompt text. A store of another layout or key seed is emptied: the index is a cache of
 * what engines said and can be relearned. One process writes: who opens the store takes it, and the
 * former owner's next flush finds that out before it writes.
 */
import { randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { crc32 } from "node:zlib";
import { type Database, open, type RootDatabase } from "lmdb";
import { z } from "zod";
import { holderName, isEndpointAddress } from "../core/ids.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import type { Flush, HolderFlush } from "./flush-rounds.ts";
import { BLOCK_SIZES_MAX, type HolderCursor, type LogCursor } from "./holder-state.ts";
import { requireMap } from "./lmdb-map-room.ts";
import { isSound, PAGE_BYTES_MAX, PAGES_MAX, sealPage } from "./store-page.ts";
import { StoreTaken } from "./store-problem.ts";

/** Layout version; another one on disk is emptied. */
const LAYOUT = 6;
const PLACE_BYTES = 8;
const CHECKSUM_BYTES = 4;

const holderRowSchema = z.object({
  slot: z.int().min(0).max(0xffff_fffe),
  pages: z.int().min(0).max(PAGES_MAX),
  blocks: z.int().min(0),
  endpoint: z.string().refine(isEndpointAddress),
  rank: z.int().min(0),
  cursor: z
    .object({
      state: z.enum(["EXACT", "DEGRADED"]),
      reason: z.string().nullable(),
      epoch: z.int().min(1),
      seq: z.int().min(-1),
      engineMs: z.number().min(0),
      blockSizesTokens: z
        .array(z.int().positive().max(BLOCK_SIZE_TOKENS_MAX))
        .max(BLOCK_SIZES_MAX)
        .readonly(),
      model: z.string(),
      ignoredGroups: z.array(z.int().min(0)).readonly().default([]),
      lanes: z.array(z.string()).readonly().exactOptional(),
    })
    .nullable(),
});

const logCursorSchema = z.object({ stream: z.string(), seq: z.int().min(0) });

/** A holder as it is in the store. */
export interface StoredHolder {
  readonly endpoint: string;
  readonly rank: number;
  readonly cursor: HolderCursor | null;
  /** Its ambiguous keys; null: they are damaged. */
  readonly ambiguous: BigUint64Array | null;
  /** Rows with copies in all its pages. */
  readonly blocks: number;
  readonly pages: number;
}

export interface StoreContents {
  readonly holders: readonly StoredHolder[];
  readonly logCursor: LogCursor | null;
  /** Holders and cursors that could not be read: left out and deleted. */
  readonly rowsRefused: number;
  /** Whether a store of another layout or key seed was found, and emptied. */
  readonly isEmptied: boolean;
}

/** Pages of the store one after the other, in the order of holders and pages. */
export interface PagePortion {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** `end`: where the page ends in `bytes`; null: it is missing or damaged. */
  readonly pages: readonly {
    /** Place of the holder in `StoreContents.holders`. */
    readonly holder: number;
    readonly page: number;
    readonly end: number | null;
  }[];
}

interface Place {
  readonly slot: number;
  readonly pages: number;
}

export class LmdbStore {
  readonly #root: RootDatabase<Buffer, string>;
  readonly #blocks: Database<Buffer, Buffer>;
  readonly #holders: Database<Buffer, string>;
  readonly #ambiguous: Database<Buffer, string>;
  readonly #owner = randomUUID();
  /** Who had the store before; it gets it back from one that ends without having written. */
  #ownerBefore: string | undefined;
  #places = new Map<string, Place>();
  #slotNext = 0;
  /** What is still to be read, the next one last. */
  #unread: { readonly holder: number; readonly slot: number; readonly pages: number }[] = [];
  #pageNext = 0;
  /** Place of the page that is read or written: LMDB takes a copy. */
  readonly #place = Buffer.alloc(PLACE_BYTES);
  /**
   * Memory of each text that is written, by its key. This thread makes so little garbage that it is
   * hardly ever collected: what a flush leaves behind would be there for an hour.
   */
  readonly #texts = new Map<string, Buffer>();
  readonly contents: StoreContents;

  /**
   * Opens or creates the store in the folder `path`, and takes it from whoever has it. Keys of another
   * seed mean nothing here, so such a store is emptied. Throws what the system or LMDB throws:
   * storeProblemOf names it.
   */
  constructor(path: string, keySeed = 0) {
    mkdirSync(path, { recursive: true });
    // Texts, and parsed here: the library's own parser would throw at a damaged row.
    // Pages as the guard of the file knows them.
    const form = { path, noSubdir: false, maxDbs: 4, pageSize: 4096 } as const;
    this.#root = open<Buffer, string>({ ...form, encoding: "binary" });
    try {
      this.#blocks = this.#root.openDB({
        name: "blocks",
        encoding: "binary",
        keyEncoding: "binary",
      });
      this.#holders = this.#root.openDB({ name: "holders", encoding: "binary" });
      this.#ambiguous = this.#root.openDB({ name: "ambiguous", encoding: "binary" });
      this.contents = this.#prepare(JSON.stringify(`${LAYOUT}/${keySeed}`));
    } catch (error) {
      void this.#root.close();
      throw error;
    }
  }

  /** The next pages of the store, about `bytesMax`; null: that were all. */
  read(bytesMax: number): PagePortion | null {
    if (this.#unread.length === 0) return null;
    const bytes = new Uint8Array(Buffer.allocUnsafeSlow(bytesMax + PAGE_BYTES_MAX).buffer);
    const pages: PagePortion["pages"][number][] = [];
    let end = 0;
    while (end < bytesMax) {
      const reading = this.#unread.at(-1);
      if (reading === undefined) break;
      if (this.#pageNext >= reading.pages) {
        this.#unread.pop();
        this.#pageNext = 0;
        continue;
      }
      const page = this.#pageNext;
      this.#pageNext += 1;
      const value = this.#readPage(this.#placeAt(reading.slot, page));
      if (value !== null) bytes.set(value, end);
      end += value?.length ?? 0;
      pages.push({ holder: reading.holder, page, end: value === null ? null : end });
    }
    return { bytes: bytes.subarray(0, end), pages };
  }

  /** Valid until the next read; null: missing or damaged. */
  #readPage(place: Buffer): Uint8Array | null {
    const value = this.#blocks.getBinaryFast(place);
    if (value === undefined || value.length > PAGE_BYTES_MAX) return null;
    // The library's buffer is longer than it says: only `length` bytes are the value.
    const page = new Uint8Array(value.buffer, value.byteOffset, value.length);
    return isSound(page, place) ? page : null;
  }

  /** Writes a flush in one transaction; throws, and nothing is written. Its pages get their checksums. */
  write({ forgotten, holders, bytes, logCursor }: Omit<Flush, "isRoundEnd">): void {
    requireMap(this.#root, bytes.length, forgotten.length + holders.length);
    const places = new Map(this.#places);
    // Synchronous: where the disk is full, the library's asynchronous commit ends the process by
    // a rejection that nobody can catch.
    this.#root.transactionSync(() => {
      if (this.#textAt("owner") !== this.#owner) throw new StoreTaken();
      for (const holder of forgotten) this.#drop(holderName(holder), places);
      for (const holder of holders) this.#writeHolder(holder, bytes, places);
      if (logCursor !== null) this.#root.putSync("logCursor", this.#sealed("logCursor", logCursor));
    });
    this.#places = places;
    this.#ownerBefore = undefined;
  }

  /** A start that failed after it had opened the store leaves it to the process that has it. */
  async close(): Promise<void> {
    const owner = this.#ownerBefore;
    try {
      if (owner !== undefined) {
        this.#root.transactionSync(() => {
          if (this.#textAt("owner") === this.#owner) {
            this.#root.putSync("owner", Buffer.from(owner));
          }
        });
      }
    } finally {
      await this.#root.close();
    }
  }

  #prepare(layout: string): StoreContents {
    const found = this.#textAt("layout");
    const isForeign = found !== undefined && found !== layout;
    let rowsRefused = 0;
    let logCursor: LogCursor | null = null;
    const holders: StoredHolder[] = [];
    this.#root.transactionSync(() => {
      this.#ownerBefore = this.#textAt("owner");
      this.#root.putSync("owner", Buffer.from(this.#owner));
      if (found !== layout) {
        this.#blocks.clearSync();
        this.#holders.clearSync();
        this.#ambiguous.clearSync();
        this.#root.removeSync("logCursor");
        this.#root.putSync("layout", Buffer.from(layout));
        return;
      }
      const text = this.#textAt("logCursor");
      const cursor = logCursorSchema.safeParse(parsed("logCursor", text));
      if (cursor.success) logCursor = cursor.data;
      else if (text !== undefined) {
        this.#root.removeSync("logCursor");
        rowsRefused += 1;
      }
      rowsRefused += this.#readHolders(holders);
      this.#dropStrays();
    });
    this.#unread.reverse();
    return { holders, logCursor, rowsRefused, isEmptied: isForeign };
  }

  /** Returns how many rows were refused; they are deleted, and their pages are strays. */
  #readHolders(holders: StoredHolder[]): number {
    const refused: string[] = [];
    const slots = new Set<number>();
    for (const { key: name, value } of this.#holders.getRange({})) {
      const row = holderRowSchema.safeParse(parsed(name, value.toString()));
      if (!row.success || slots.has(row.data.slot)) {
        refused.push(name);
        continue;
      }
      const { slot, ...holder } = row.data;
      slots.add(slot);
      this.#places.set(name, { slot, pages: holder.pages });
      this.#slotNext = Math.max(this.#slotNext, slot + 1);
      this.#unread.push({ holder: holders.length, slot, pages: holder.pages });
      holders.push({ ...holder, ambiguous: unsealedKeys(name, this.#ambiguous.get(name)) });
    }
    for (const name of refused) this.#holders.removeSync(name);
    return refused.length;
  }

  /** Deletes the pages of slots that no holder has: one that gets the slot must not inherit them. */
  #dropStrays(): void {
    const slots = new Set([...this.#places.values()].map(({ slot }) => slot));
    let start: Buffer = Buffer.of(0);
    for (;;) {
      const [key] = [...this.#blocks.getKeys({ start, limit: 1 })];
      if (key === undefined) return;
      const slot = key.length === PLACE_BYTES ? key.readUInt32BE(0) : null;
      if (slot !== null && slots.has(slot)) start = placeOf(slot + 1, 0, Buffer.alloc(PLACE_BYTES));
      else this.#blocks.removeSync(key);
    }
  }

  #drop(name: string, places: Map<string, Place>): void {
    const place = places.get(name);
    if (place === undefined) return;
    for (let page = 0; page < place.pages; page += 1) {
      this.#blocks.removeSync(this.#placeAt(place.slot, page));
    }
    this.#holders.removeSync(name);
    this.#ambiguous.removeSync(name);
    this.#texts.delete(name);
    places.delete(name);
  }

  #writeHolder(flush: HolderFlush, bytes: Uint8Array, places: Map<string, Place>): void {
    const { holder, cursor, ambiguous, blocks, pages, changed, ends, start } = flush;
    const name = holderName(holder);
    const { slot, pages: pagesBefore } = places.get(name) ?? this.#newPlace();
    for (const [at, page] of changed.entries()) {
      const place = this.#placeAt(slot, page);
      const from = ends[at - 1] ?? start;
      const value = Buffer.from(bytes.buffer, bytes.byteOffset + from, (ends[at] ?? from) - from);
      sealPage(value, place);
      this.#blocks.putSync(place, value);
    }
    for (let page = pages; page < pagesBefore; page += 1) {
      this.#blocks.removeSync(this.#placeAt(slot, page));
    }
    const { endpointId: endpoint, rank } = holder;
    const row = { slot, pages, blocks, endpoint, rank, cursor };
    this.#holders.putSync(name, this.#sealed(name, row));
    if (ambiguous?.length === 0) this.#ambiguous.removeSync(name);
    else if (ambiguous !== null) this.#ambiguous.putSync(name, sealedKeys(name, ambiguous));
    places.set(name, { slot, pages });
  }

  #textAt(key: string): string | undefined {
    return this.#root.get(key)?.toString();
  }

  /** Valid until the same key is sealed again. */
  #sealed(key: string, value: object): Buffer {
    const text = sealed(key, JSON.stringify(value));
    const bytes = Buffer.byteLength(text);
    let memory = this.#texts.get(key);
    if (memory === undefined || memory.length < bytes) {
      memory = Buffer.allocUnsafeSlow(2 * bytes);
      this.#texts.set(key, memory);
    }
    memory.write(text);
    return memory.subarray(0, bytes);
  }

  #placeAt(slot: number, page: number): Buffer {
    return placeOf(slot, page, this.#place);
  }

  #newPlace(): Place {
    const slot = this.#slotNext;
    this.#slotNext += 1;
    return { slot, pages: 0 };
  }
}

function placeOf(slot: number, page: number, place: Buffer): Buffer {
  place.writeUInt32BE(slot, 0);
  place.writeUInt32BE(page, 4);
  return place;
}

/** Checksum and text; a flipped bit or another key shows. */
function sealed(key: string, text: string): string {
  return `${crc32(text, crc32(key)).toString(16)} ${text}`;
}

/** Checksum, then the keys. */
function sealedKeys(name: string, keys: BigUint64Array): Buffer {
  const bytes = Buffer.alloc(CHECKSUM_BYTES + keys.byteLength);
  bytes.set(new Uint8Array(keys.buffer, keys.byteOffset, keys.byteLength), CHECKSUM_BYTES);
  bytes.writeUInt32LE(crc32(bytes.subarray(CHECKSUM_BYTES), crc32(name)), 0);
  return bytes;
}

/** None where there is nothing; null for what is not as it was sealed. */
function unsealedKeys(name: string, bytes: Buffer | undefined): BigUint64Array | null {
  if (bytes === undefined) return new BigUint64Array(0);
  const keys = bytes.subarray(CHECKSUM_BYTES);
  if (bytes.length < CHECKSUM_BYTES || keys.length % 8 !== 0) return null;
  if (bytes.readUInt32LE(0) !== crc32(keys, crc32(name))) return null;
  // Copied, because they need not be aligned.
  return new BigUint64Array(Uint8Array.from(keys).buffer);
}

/** Undefined for what is not as it was sealed: no schema here accepts it. */
function parsed(key: string, value: string | undefined): unknown {
  const at = value?.indexOf(" ") ?? -1;
  const text = value?.slice(at + 1) ?? "";
  if (value === undefined || value !== sealed(key, text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
