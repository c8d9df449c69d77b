/**
 * A page: a fixed run of one holder's rows as bytes, the unit in which the store writes and reads.
 *
 * Little endian: checksum u32, rows u16, counts aside u16; then the rows as columns: handles u64, block
 * keys u64, copies u8 (two bits a tier); then for each count that these bits do not hold row u8, tier u8
 * and count u16. A row without copies is free. PAGE_ROWS is what one LMDB page of 4,096 bytes takes:
 * 17.1 bytes per row. The checksum (CRC-32) covers the page's place too, so that a page that stands
 * elsewhere is as bad as one with a flipped bit.
 */
import { crc32 } from "node:zlib";
import { TIERS } from "../tiers/tier.ts";
import { COPIES_MAX, type CopyCounts, MANY_COPIES } from "./copy-counts.ts";
import { ROWS_MAX } from "./handle-slots.ts";

export const PAGE_ROWS = 239;
/** Pages of a holder with ROWS_MAX rows. */
export const PAGES_MAX = Math.ceil(ROWS_MAX / PAGE_ROWS);

const HEADER_BYTES = 8;
const ROW_BYTES = 17;
/** Bytes of a count aside. */
export const MANY_BYTES = 4;
/** Bytes of a page whose counts all fit their bits. */
export const PAGE_BYTES = HEADER_BYTES + PAGE_ROWS * ROW_BYTES;
/** Bytes of any page. */
export const PAGE_BYTES_MAX = PAGE_BYTES + PAGE_ROWS * TIERS.length * MANY_BYTES;

/** A holder's rows as they lie in memory. */
export interface PageColumns {
  /** Two words for each row, low first. */
  readonly handles: Uint32Array;
  readonly keys: Uint32Array;
  readonly copies: CopyCounts;
  /** Rows given so far. */
  readonly rowEnd: number;
}

/** Rows of one page, to be put at its place. */
export interface PageRows {
  readonly rows: number;
  readonly handles: BigUint64Array;
  readonly keys: BigUint64Array;
  readonly copies: Uint8Array;
  /** Counts that the bits do not hold. */
  readonly many: readonly {
    readonly row: number;
    readonly order: number;
    readonly copies: number;
  }[];
}

/** Writes a page to `target` at `offset`, without its checksum. Returns where it ends. */
export function writePage(
  { handles, keys, copies, rowEnd }: PageColumns,
  page: number,
  target: Uint8Array,
  offset: number,
): number {
  const first = page * PAGE_ROWS;
  const rows = Math.min(PAGE_ROWS, rowEnd - first);
  let at = offset + HEADER_BYTES;
  for (const words of [handles, keys]) {
    target.set(new Uint8Array(words.buffer, words.byteOffset + 8 * first, 8 * rows), at);
    at += 8 * rows;
  }
  target.set(copies.bytes.subarray(first, first + rows), at);
  at += rows;
  const view = new DataView(target.buffer, target.byteOffset);
  let many = 0;
  for (let row = 0; copies.manySize > 0 && row < rows; row += 1) {
    for (let order = 0; order < TIERS.length; order += 1) {
      const count = copies.get(first + row, order);
      if (count < MANY_COPIES) continue;
      view.setUint8(at, row);
      view.setUint8(at + 1, order);
      view.setUint16(at + 2, count, true);
      at += MANY_BYTES;
      many += 1;
    }
  }
  view.setUint32(offset, 0, true);
  view.setUint16(offset + 4, rows, true);
  view.setUint16(offset + 6, many, true);
  return at;
}

/** Writes the checksum of a whole page that stands at `place`. */
export function sealPage(page: Uint8Array, place: Uint8Array): void {
  viewOf(page).setUint32(0, checksumOf(page, place), true);
}

/** Whether it is what was written at this place. */
export function isSound(page: Uint8Array, place: Uint8Array): boolean {
  if (page.length < HEADER_BYTES) return false;
  return viewOf(page).getUint32(0, true) === checksumOf(page, place);
}

/** The rows of a sound page; null: it has not the form of one. */
export function readPage(page: Uint8Array): PageRows | null {
  if (page.length < HEADER_BYTES) return null;
  const view = viewOf(page);
  const rows = view.getUint16(4, true);
  const manyCount = view.getUint16(6, true);
  const manyAt = HEADER_BYTES + rows * ROW_BYTES;
  if (rows > PAGE_ROWS || page.length !== manyAt + manyCount * MANY_BYTES) return null;
  const copiesAt = HEADER_BYTES + 16 * rows;
  // Copied, because the words need not be aligned.
  const words = new BigUint64Array(page.slice(HEADER_BYTES, copiesAt).buffer);
  const many = Array.from({ length: manyCount }, (_, each) => {
    const at = manyAt + each * MANY_BYTES;
    const copies = Math.min(COPIES_MAX, view.getUint16(at + 2, true));
    return { row: view.getUint8(at), order: view.getUint8(at + 1), copies };
  });
  if (many.some(({ row, order }) => row >= rows || order >= TIERS.length)) return null;
  return {
    rows,
    handles: words.subarray(0, rows),
    keys: words.subarray(rows),
    copies: page.subarray(copiesAt, manyAt),
    many,
  };
}

function checksumOf(page: Uint8Array, place: Uint8Array): number {
  return crc32(page.subarray(4), crc32(place));
}

function viewOf(page: Uint8Array): DataView {
  return new DataView(page.buffer, page.byteOffset, page.byteLength);
}
