/**
 * Slots of holders and their names, in the table's shared memory: the writer gives a slot, and every
 * thread finds the holder of a slot there. A slot is given once and never changes its holder.
 */
import { assert } from "../core/assert.ts";
import { endpointId, type Holder, holderName } from "../core/ids.ts";
import type { TableHandle, TableWasm } from "./table-memory.ts";

/** No slot: all are given. */
export const NO_SLOT = -1;

export class HolderNames {
  readonly #count: Uint32Array;
  readonly #bytes: Uint8Array;
  readonly #nameBytes: number;
  readonly #slotsMax: number;
  /** Holders of the slots that this thread has met. */
  readonly #holders: Holder[] = [];

  constructor({ memory }: TableHandle, wasm: TableWasm) {
    this.#nameBytes = wasm.NAME_BYTES.value;
    this.#slotsMax = wasm.HOLDERS_MAX.value;
    this.#count = new Uint32Array(memory.buffer, wasm.HOLDERS_AT.value, 1);
    const length = this.#nameBytes * this.#slotsMax;
    this.#bytes = new Uint8Array(memory.buffer, wasm.NAMES_AT.value, length);
  }

  /** Writer: the next slot for a holder without one, or NO_SLOT. */
  give(holder: Holder): number {
    const slot = Atomics.load(this.#count, 0);
    if (slot === this.#slotsMax) return NO_SLOT;
    const name = Buffer.from(holderName(holder));
    assert(name.length < this.#nameBytes, "holder's name too long", { name: name.toString() });
    const at = slot * this.#nameBytes;
    this.#bytes.set(name, at);
    this.#bytes[at + name.length] = 0;
    Atomics.store(this.#count, 0, slot + 1);
    return slot;
  }

  /** The holder of a slot that the table has led to. */
  holder(slot: number): Holder {
    return this.#holders[slot] ?? this.#read(slot);
  }

  #read(slot: number): Holder {
    assert(slot < Atomics.load(this.#count, 0), "slot without a holder", { slot });
    const start = slot * this.#nameBytes;
    const end = this.#bytes.indexOf(0, start);
    // A copy, because text decoders refuse shared memory.
    const name = Buffer.from(this.#bytes.slice(start, end)).toString();
    const border = name.lastIndexOf("#");
    const holder = {
      endpointId: endpointId(name.slice(0, border)),
      rank: Number(name.slice(border + 1)),
    };
    this.#holders[slot] = holder;
    return holder;
  }
}
