/**
 * Reads msgpack one value after the other, straight from bytes whose shape was checked
 * (msgpack-shape.ts): integers in whatever form they are written, lists of hashes and token ids as
 * typed arrays, and nothing of what is passed over.
 *
 * What a message makes it allocate has a limit: once that is reached, whatever would take more reads as
 * unreadable, and `isSpent` says why.
 */
import { isUtf8 } from "node:buffer";
import { Slab } from "../core/slab.ts";
import { plainInteger, readHash } from "./event-fields.ts";
import { formOf, lengthAt } from "./msgpack-shape.ts";

/** What V8 takes for a value beside its letters, bytes or slots, heap bytes. */
const ARRAY_BYTES = 48;
const MAP_BYTES = 96;
const TEXT_BYTES = 48;
/** A view of its own. */
const VIEW_BYTES = 160;
/** A slot with what does not fit into it: bigint, fraction. */
const BOXED_BYTES = 40;
const UINT32_MAX = 0xffff_ffff;
/** High words below make integers that a number holds. */
const HIGH_PLAIN_MAX = 2 ** 21;
/** The head of an array of two. */
const PAIR = 0x92;

/**
 * What no field has: extensions, text that is not UTF-8, whatever is beyond the memory, and floats with
 * the value of an integer, which JavaScript could not tell from one.
 */
const UNREADABLE: object = Object.freeze({});

const hashSlab = new Slab();
const tokenSlab = new Slab();

export class MsgpackReader {
  /** Where the next value begins. */
  at = 0;
  readonly #bytes: Buffer;
  readonly #view: DataView;
  #bytesLeft: number;

  /** `bytesMax`: heap bytes of all that is read. */
  constructor(bytes: Uint8Array, bytesMax: number) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#bytesLeft = bytesMax;
  }

  /** Whether something did not fit into the memory. */
  get isSpent(): boolean {
    return this.#bytesLeft < 0;
  }

  /** False: so many heap bytes are beyond the limit. */
  spend(bytes: number): boolean {
    this.#bytesLeft -= bytes;
    return this.#bytesLeft >= 0;
  }

  /** Passes an array's head; null: something else comes, and is not passed. */
  arrayLength(): number | null {
    return this.#lengthOf(0x90, 0xdc);
  }

  mapLength(): number | null {
    return this.#lengthOf(0x80, 0xde);
  }

  skip(): void {
    for (let left = 1; left > 0; left -= 1) {
      const head = this.#bytes[this.at] ?? 0;
      this.at += 1;
      if (head < 0x80 || head >= 0xe0) continue;
      if (head < 0x90) left += 2 * (head & 0x0f);
      else if (head < 0xa0) left += head & 0x0f;
      else if (head < 0xc0) this.at += head & 0x1f;
      else {
        const { lengthBytes, bytes, values } = formOf(head) ?? NO_FORM;
        const length = lengthAt(this.#view, this.at, lengthBytes);
        this.at += lengthBytes + bytes + (values === 0 ? length : 0);
        left += length * values;
      }
    }
  }

  /** Passes an integer; null: something else comes, and is not passed. */
  integer(): number | bigint | null {
    const view = this.#view;
    const at = this.at + 1;
    const head = this.#bytes[this.at] ?? 0;
    if (head >= 0x80 && head < 0xe0 && (head < 0xcc || head > 0xd3)) return null;
    this.skip();
    if (head < 0x80) return head;
    if (head >= 0xe0) return head - 0x100;
    if (head === 0xcf || head === 0xd3) return this.#long(at, head);
    if (head < 0xd0) return lengthAt(view, at, this.at - at);
    if (head === 0xd2) return view.getInt32(at);
    return head === 0xd1 ? view.getInt16(at) : view.getInt8(at);
  }

  /** Passes a number, integer or float; null: it is none, or one beyond 2^53. */
  number(): number | null {
    const integer = this.integer();
    if (integer !== null) return typeof integer === "number" ? integer : null;
    const start = this.at;
    const head = this.#bytes[start] ?? 0;
    this.skip();
    return head === 0xca || head === 0xcb ? this.#floatAt(start) : null;
  }

  /**
   * Any value: integers as numbers where these hold them, else as bigint; of a map the fields whose names
   * are text.
   */
  value(): unknown {
    const length = this.arrayLength();
    if (length !== null) return this.#array(length);
    const fields = this.mapLength();
    return fields === null ? this.scalar() : this.#map(fields);
  }

  /** A value without others inside; arrays and maps are unreadable. */
  scalar(): unknown {
    const integer = this.integer();
    if (integer !== null) return integer;
    const head = this.#bytes[this.at] ?? 0;
    const letters = this.#passText();
    if (letters !== null) return this.#text(letters);
    const start = this.at;
    this.skip();
    if (head === 0xc0) return null;
    if (head === 0xc2 || head === 0xc3) return head === 0xc3;
    if (head === 0xca || head === 0xcb) {
      const float = this.#floatAt(start);
      return Number.isFinite(float) && !Number.isInteger(float) ? float : UNREADABLE;
    }
    if (head < 0xc4 || head > 0xc6) return UNREADABLE;
    const from = start + 1 + (1 << (head - 0xc4));
    // A copy: the message's bytes do not stay.
    return this.spend(2 * VIEW_BYTES + this.at - from)
      ? Uint8Array.from(this.#bytes.subarray(from, this.at))
      : UNREADABLE;
  }

  /** Passes a value; which of these texts it is, -1: none. */
  text(texts: readonly Uint8Array[]): number {
    const start = this.#passText();
    if (start === null) {
      this.skip();
      return -1;
    }
    // A loop: a message may have millions of names, and a closure for each takes its memory.
    for (let which = 0; which < texts.length; which += 1) {
      if (this.#isEqual(texts[which], start)) return which;
    }
    return -1;
  }

  /** A list of hashes, as readHash takes them. Undefined: something else. */
  hashes(): BigUint64Array | undefined {
    const length = this.arrayLength();
    if (length === null || !this.spend(VIEW_BYTES + 8 * length)) return undefined;
    const place = hashSlab.take(2 * length);
    const { buffer, words } = hashSlab;
    for (let at = place / 4; at < place / 4 + 2 * length; at += 2) {
      const head = this.#bytes[this.at] ?? 0;
      const start = this.at;
      // The low 64 bits as they are on the wire: no bigint is made, and no large number.
      const isLong = head === 0xcf || head === 0xd3;
      if (isLong || (head === 0xc4 && (this.#bytes[start + 1] ?? 0) >= 8)) {
        this.skip();
        words[at] = this.#view.getInt32(this.at - 4);
        words[at + 1] = this.#view.getInt32(this.at - 8);
        continue;
      }
      if (head === 0xce) {
        words[at] = this.#view.getInt32(start + 1);
        words[at + 1] = 0;
        this.at += 5;
        continue;
      }
      const integer = this.integer();
      if (typeof integer === "number") {
        words[at] = integer;
        words[at + 1] = integer < 0 ? UINT32_MAX : 0;
        continue;
      }
      const handle = readHash(this.scalar());
      if (handle === undefined) return undefined;
      words[at] = Number(handle & 0xffff_ffffn);
      words[at + 1] = Number(handle >> 32n);
    }
    return new BigUint64Array(buffer, place, length);
  }

  /**
   * A list of token ids, or of pairs (EAGLE), of which each first one is taken. Undefined: something else,
   * or an id beyond 32 bits.
   */
  tokens(): { readonly tokens: Uint32Array; readonly arePairs: boolean } | undefined {
    const length = this.arrayLength();
    if (length === null || !this.spend(VIEW_BYTES + 4 * length)) return undefined;
    const arePairs = length > 0 && this.#bytes[this.at] === PAIR;
    const place = tokenSlab.take(length);
    const { buffer, words } = tokenSlab;
    for (let at = place / 4; at < place / 4 + length; at += 1) {
      // As the words that they become: V8 has no number of 32 bits without a sign that takes no memory.
      if (this.#bytes[this.at] === 0xce && !arePairs) {
        words[at] = this.#view.getInt32(this.at + 1);
        this.at += 5;
        continue;
      }
      const token = arePairs ? this.#firstOfPair() : this.integer();
      if (typeof token !== "number" || token < 0 || token > UINT32_MAX) return undefined;
      words[at] = token;
    }
    return { tokens: new Uint32Array(buffer, place, length), arePairs };
  }

  /** A list of integers of any size. Undefined: something else. */
  integers(): (number | bigint)[] | undefined {
    const length = this.arrayLength();
    if (length === null || !this.spend(ARRAY_BYTES + BOXED_BYTES * length)) return undefined;
    const list = new Array<number | bigint>(length);
    for (let position = 0; position < length; position += 1) {
      const integer = this.integer();
      if (integer === null) return undefined;
      list[position] = integer;
    }
    return list;
  }

  #firstOfPair(): number | bigint | null {
    if (this.arrayLength() !== 2) return null;
    const first = this.integer();
    this.skip();
    return first;
  }

  #array(length: number): unknown {
    if (!this.spend(ARRAY_BYTES + BOXED_BYTES * length)) return UNREADABLE;
    // Of its length at once: a list that grows begins with room for 17.
    const list = new Array<unknown>(length);
    for (let position = 0; position < length; position += 1) list[position] = this.value();
    return list;
  }

  #map(fields: number): unknown {
    if (!this.spend(MAP_BYTES + 3 * BOXED_BYTES * fields)) return UNREADABLE;
    const map: Record<string, unknown> = {};
    for (let field = 0; field < fields; field += 1) {
      const letters = this.#passText();
      if (letters === null) this.skip();
      const name = letters === null ? null : this.#text(letters);
      if (typeof name === "string" && name !== "__proto__") map[name] = this.value();
      else this.skip();
    }
    return map;
  }

  /** The text that was passed. */
  #text(start: number): unknown {
    if (!this.spend(TEXT_BYTES + 2 * (this.at - start))) return UNREADABLE;
    const text = this.#bytes.toString("utf8", start, this.at);
    const isWhole = !text.includes("\ufffd") || isUtf8(this.#bytes.subarray(start, this.at));
    return isWhole ? text : UNREADABLE;
  }

  /** Whether the text that was passed is this one. */
  #isEqual(letters: Uint8Array | undefined, start: number): boolean {
    if (letters === undefined || this.at - start !== letters.length) return false;
    for (let letter = 0; letter < letters.length; letter += 1) {
      if (this.#bytes[start + letter] !== letters[letter]) return false;
    }
    return true;
  }

  /** Passes a text, which ends at `at`, and tells where it begins; null: something else comes. */
  #passText(): number | null {
    const head = this.#bytes[this.at] ?? 0;
    const isShort = (head & 0xe0) === 0xa0;
    if (!isShort && (head < 0xd9 || head > 0xdb)) return null;
    const start = this.at + 1 + (isShort ? 0 : 1 << (head - 0xd9));
    this.skip();
    return start;
  }

  #lengthOf(headShort: number, head16: number): number | null {
    const head = this.#bytes[this.at] ?? 0;
    if ((head & 0xf0) === headShort) {
      this.at += 1;
      return head & 0x0f;
    }
    if (head !== head16 && head !== head16 + 1) return null;
    const lengthBytes = head === head16 ? 2 : 4;
    const length = lengthAt(this.#view, this.at + 1, lengthBytes);
    this.at += 1 + lengthBytes;
    return length;
  }

  #floatAt(at: number): number {
    const isDouble = this.#bytes[at] === 0xcb;
    return isDouble ? this.#view.getFloat64(at + 1) : this.#view.getFloat32(at + 1);
  }

  /** 64 bits. No bigint is made for what a number holds, up to 2^53. */
  #long(at: number, head: 0xcf | 0xd3): number | bigint {
    const view = this.#view;
    const high = head === 0xd3 ? view.getInt32(at) : view.getUint32(at);
    if (high >= -HIGH_PLAIN_MAX && high < HIGH_PLAIN_MAX) {
      return high * 2 ** 32 + view.getUint32(at + 4);
    }
    return plainInteger(head === 0xd3 ? view.getBigInt64(at) : view.getBigUint64(at));
  }
}

const NO_FORM = { lengthBytes: 0, bytes: 0, values: 0 } as const;
