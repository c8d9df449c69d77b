/**
 * Copies of each row in each tier, in one byte a row: two bits a tier, and aside what does not fit.
 *
 * Nearly every block has one copy in one tier; engines that do not de-duplicate make a few more.
 */
import { TIERS } from "../tiers/tier.ts";
import { grown } from "./u64-table.ts";

/** Copies of a block counted per tier; more are taken as this many. */
export const COPIES_MAX = 65_535;

/** The two bits of a tier whose count is aside, and the least such count. */
export const MANY_COPIES = 3;

export class CopyCounts {
  #bytes: Uint8Array<ArrayBuffer>;
  /** By row times 4 plus tier: counts of MANY_COPIES and more. */
  readonly #many = new Map<number, number>();

  constructor(rows: number) {
    this.#bytes = new Uint8Array(rows);
  }

  /** A byte for each row; 0: no copies. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  get byteLength(): number {
    return this.#bytes.byteLength;
  }

  /** Rows and tiers whose counts are aside. */
  get manySize(): number {
    return this.#many.size;
  }

  grow(rows: number): void {
    this.#bytes = grown(this.#bytes, new Uint8Array(rows));
  }

  get(row: number, order: number): number {
    const bits = ((this.#bytes[row] ?? 0) >> (2 * order)) & MANY_COPIES;
    return bits < MANY_COPIES ? bits : (this.#many.get(4 * row + order) ?? MANY_COPIES);
  }

  set(row: number, order: number, copies: number): void {
    const bits = Math.min(copies, MANY_COPIES);
    const before = this.#bytes[row] ?? 0;
    const shift = 2 * order;
    if (((before >> shift) & MANY_COPIES) === MANY_COPIES) this.#many.delete(4 * row + order);
    this.#bytes[row] = (before & ~(MANY_COPIES << shift)) | (bits << shift);
    if (bits === MANY_COPIES) this.#many.set(4 * row + order, Math.min(copies, COPIES_MAX));
  }

  /** Copies in each tier, in the order of TIERS. */
  of(row: number): number[] {
    return TIERS.map((_, order) => this.get(row, order));
  }

  /** Copies in all tiers together. */
  total(row: number): number {
    if (this.#bytes[row] === 1) return 1;
    let total = 0;
    for (const order of TIERS.keys()) total += this.get(row, order);
    return total;
  }

  /** Puts the bytes of rows that were free from `row` on. */
  load(row: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, row);
  }
}
