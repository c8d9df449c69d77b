/**
 * Slots of holders and their names, in the table's shared memory: the writer gives a slot, and every
 * thread finds the holder of a slot there.
 *
 * A slot may be given again. Each giving is counted before the name is written, so
 * that a reader whose walk and names fall between two equal counts has seen every slot under one name.
 */
import { assert } from "../core/assert.ts";
import { endpointId, type Holder, holderName } from "../core/ids.ts";
import type { TableHandle, TableWasm } from "./table-memory.ts";

/** Stands for a holder whose name changed while it was read: its answer is not given. */
const CHANGED: Holder = { endpointId: endpointId("changed:1"), rank: 0 };

export class HolderNames {
  /** Slots given so far, each as often as it was. */
  readonly #givings: Uint32Array;
  readonly #bytes: Uint8Array;
  readonly #nameBytes: number;
  /** Holders of the slots that this thread has met, as of so many givings. */
  #holders: Holder[] = [];
  #readAt = 0;

  constructor({ memory }: TableHandle, wasm: TableWasm) {
    this.#nameBytes = wasm.NAME_BYTES.value;
    this.#givings = new Uint32Array(memory.buffer, wasm.HOLDERS_AT.value, 1);
    const length = this.#nameBytes * wasm.HOLDERS_MAX.value;
    this.#bytes = new Uint8Array(memory.buffer, wasm.NAMES_AT.value, length);
  }

  /** Writer: gives a slot that no entry of the table has. */
  give(slot: number, holder: Holder): void {
    const name = Buffer.from(holderName(holder));
    assert(name.length < this.#nameBytes, "holder's name too long", { name: name.toString() });
    Atomics.add(this.#givings, 0, 1);
    const at = slot * this.#nameBytes;
    this.#bytes.set(name, at);
    this.#bytes[at + name.length] = 0;
  }

  /** Reader, before a walk: what `isSame` compares with at its end. */
  begin(): number {
    const givings = Atomics.load(this.#givings, 0);
    if (givings !== this.#readAt) {
      this.#holders = [];
      this.#readAt = givings;
    }
    return givings;
  }

  /** Whether no slot was given since: then all holders that were read are those of the walk. */
  isSame(givings: number): boolean {
    return Atomics.load(this.#givings, 0) === givings;
  }

  /** The holder of a slot that the table has led to. */
  holder(slot: number): Holder {
    return this.#holders[slot] ?? this.#read(slot);
  }

  #read(slot: number): Holder {
    const start = slot * this.#nameBytes;
    // A copy, because text decoders refuse shared memory.
    const bytes = Buffer.from(this.#bytes.slice(start, start + this.#nameBytes));
    // Reads and writes, so that it is ordered after what was read before.
    if (Atomics.add(this.#givings, 0, 0) !== this.#readAt) return CHANGED;
    const name = bytes.toString("latin1", 0, bytes.indexOf(0));
    const border = name.lastIndexOf("#");
    const holder = {
      endpointId: endpointId(name.slice(0, border)),
      rank: Number(name.slice(border + 1)),
    };
    this.#holders[slot] = holder;
    return holder;
  }
}
