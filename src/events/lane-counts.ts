/** Copies of one holder's blocks in one lane, by handle: 25 to 40 bytes for each block that it has. */
import { COPIES_MAX } from "../indexer/copy-counts.ts";
import { grown, NO_ID, U64Table } from "../indexer/u64-table.ts";
import { U64Cell } from "../indexer/u64-words.ts";

export class LaneCounts {
  readonly #table = new U64Table();
  readonly #cell = new U64Cell();
  #copies = new Uint16Array(this.#table.capacity);
  /** Where the last handle was found: its neighbour is looked for beside it. */
  #near = NO_ID;

  get(handle: bigint): number {
    const id = this.#find(handle);
    return id === NO_ID ? 0 : (this.#copies[id] ?? 0);
  }

  add(handle: bigint, copies: number): void {
    let id = this.#find(handle);
    if (id === NO_ID) {
      id = this.#table.insert(this.#cell.low, this.#cell.high);
      this.#near = id;
      if (this.#table.capacity > this.#copies.length) {
        this.#copies = grown(this.#copies, new Uint16Array(this.#table.capacity));
      }
      this.#copies[id] = 0;
    }
    this.#copies[id] = Math.min(COPIES_MAX, (this.#copies[id] ?? 0) + copies);
  }

  /** Takes one copy away. False: there is none. */
  take(handle: bigint): boolean {
    const id = this.#find(handle);
    if (id === NO_ID) return false;
    const copies = (this.#copies[id] ?? 1) - 1;
    this.#copies[id] = copies;
    if (copies === 0) this.#table.delete(id);
    return true;
  }

  *handles(): Generator<bigint> {
    const table = this.#table;
    for (let id = 0; id < table.idEnd; id += 1) {
      if (table.isLive(id)) yield this.#cell.join(table.low(id), table.high(id));
    }
  }

  clear(): void {
    this.#table.clear();
    this.#copies = new Uint16Array(this.#table.capacity);
    this.#near = NO_ID;
  }

  #find(handle: bigint): number {
    this.#cell.set(handle);
    const id = this.#table.find(this.#cell.low, this.#cell.high, this.#near);
    if (id !== NO_ID) this.#near = id;
    return id;
  }
}
