/**
 * Reads msgpack values from left to right where their kind is known before.
 *
 * A value of another kind makes the whole scan unusual: what is read after that means nothing, and
 * the caller gives up. Lengths are held against the bytes that are left, and those of all lists
 * against LISTED_MAX, before anything is allocated.
 */
import { Slab } from "../core/slab.ts";
import { U64Cell } from "../indexer/u64-words.ts";

/** What numbers are when the scan is unusual. */
export const UNUSUAL = -1;
/** A head that msgpack never uses: what is read behind the end. */
const NO_HEAD = 0xc1;
const NIL = 0xc0;

/** Where the arrays of all scans lie: tokens apart, because they are done with first. */
const hashSlab = new Slab();
const tokenSlab = new Slab();
/** Scratch of every scan: a view on each message costs more than reading it. */
const cell = new U64Cell();
const float64Cell = new Float64Array(1);
const float64Words = new Uint32Array(float64Cell.buffer);

/** A hash is a bigint for a moment. */
const HASH_SLOTS = 4;
/** Values in all lists of one message: at 8 bytes each, VALUES_BYTES_MAX of the general decoder. */
const LISTED_MAX = 1_048_576;

export class MsgpackScan {
  readonly #bytes: Uint8Array;
  #listed = 0;
  #at = 0;
  #isUnusual = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isUnusual(): boolean {
    return this.#isUnusual;
  }

  /** Whether all bytes were read, and as what they are. */
  get isAtEnd(): boolean {
    return !this.#isUnusual && this.#at === this.#bytes.length;
  }

  giveUp(): void {
    this.#isUnusual = true;
  }

  /** Reads a nil, if one comes next. */
  isNil(): boolean {
    if (this.#bytes[this.#at] !== NIL) return false;
    this.#at += 1;
    return true;
  }

  /** `slots`: memory of each value, in units of 8 bytes. */
  arrayLength(slots = 1): number {
    const head = this.#head();
    if (head >= 0x90 && head < 0xa0) return this.#fitting(head & 0x0f, slots);
    if (head === 0xdc) return this.#fitting(this.#uint(2), slots);
    return head === 0xdd ? this.#fitting(this.#uint(4), slots) : this.#unusual();
  }

  /** UNUSUAL without giving up, and without a step, when no map comes next; vLLM's have 16 bits. */
  mapLength(): number {
    const head = this.#bytes[this.#at] ?? NO_HEAD;
    if (head !== 0xde && (head < 0x80 || head >= 0x90)) return UNUSUAL;
    this.#at += 1;
    return head === 0xde ? this.#uint(2) : head & 0x0f;
  }

  float64(): number {
    if (this.#head() !== 0xcb || !this.#has(8)) return this.#unusual();
    float64Words[1] = this.#uint(4);
    float64Words[0] = this.#uint(4);
    return float64Cell[0] ?? 0;
  }

  /** An unsigned integer of at most 32 bits. */
  count(): number {
    const head = this.#head();
    if (head < 0x80) return head;
    if (head === 0xcc) return this.#uint(1);
    if (head === 0xcd) return this.#uint(2);
    return head === 0xce ? this.#uint(4) : this.#unusual();
  }

  /** An integer, or the last 8 bytes of a byte string: 64 bits, two's complement. */
  u64(): bigint {
    const head = this.#bytes[this.#at] ?? NO_HEAD;
    if (head < 0x80 || (head >= 0xcc && head <= 0xce)) return BigInt(this.count());
    this.#at += 1;
    let length = 8;
    if (head === 0xc4) length = this.#uint(1);
    else if (head !== 0xcf && head !== 0xd3) this.giveUp();
    if (length < 8 || !this.#has(length)) this.giveUp();
    if (this.#isUnusual) return 0n;
    this.#at += length - 8;
    const high = this.#uint(4);
    return cell.join(this.#uint(4), high);
  }

  /** An array of such 64 bits. */
  u64Array(): BigUint64Array {
    const length = this.arrayLength(HASH_SLOTS);
    const values = hashSlab.u64(this.#isUnusual ? 0 : length);
    for (let position = 0; position < values.length; position += 1) values[position] = this.u64();
    return values;
  }

  /** An array of unsigned integers of at most 32 bits. */
  u32Array(): Uint32Array {
    const length = this.arrayLength();
    const values = tokenSlab.u32(this.#isUnusual ? 0 : length);
    const bytes = this.#bytes;
    let at = this.#at;
    for (let position = 0; position < values.length; position += 1) {
      const head = bytes[at] ?? NO_HEAD;
      if (head < 0x80) {
        values[position] = head;
        at += 1;
      } else if (head === 0xcd && at + 2 < bytes.length) {
        values[position] = u16At(bytes, at + 1);
        at += 3;
      } else if (head === 0xce && at + 4 < bytes.length) {
        values[position] = u32At(bytes, at + 1);
        at += 5;
      } else {
        this.#at = at;
        values[position] = this.count();
        if (this.#isUnusual) return values;
        at = this.#at;
      }
    }
    this.#at = at;
    return values;
  }

  /** ASCII text of at most 255 bytes. */
  text(): string {
    const head = this.#head();
    let length = head & 0x1f;
    if (head === 0xd9) length = this.#uint(1);
    else if (head < 0xa0 || head >= 0xc0) this.giveUp();
    if (this.#isUnusual || !this.#has(length)) {
      this.giveUp();
      return "";
    }
    const start = this.#at;
    this.#at += length;
    return knownText(this.#bytes, start, length) ?? this.#ascii(start, length);
  }

  #ascii(start: number, length: number): string {
    let text = "";
    for (let at = start; at < start + length; at += 1) {
      const code = this.#bytes[at] ?? 0;
      if (code >= 0x80) this.giveUp();
      text += String.fromCharCode(code);
    }
    return text;
  }

  #head(): number {
    const head = this.#bytes[this.#at] ?? NO_HEAD;
    this.#at += 1;
    return head;
  }

  #uint(bytes: 1 | 2 | 4): number {
    if (!this.#has(bytes)) return this.#unusual();
    const at = this.#at;
    this.#at += bytes;
    if (bytes === 1) return this.#bytes[at] ?? 0;
    return bytes === 2 ? u16At(this.#bytes, at) : u32At(this.#bytes, at);
  }

  #has(bytes: number): boolean {
    return this.#at + bytes <= this.#bytes.length;
  }

  /** Each value takes a byte at least. */
  #fitting(length: number, slots: number): number {
    this.#listed += length * slots;
    const isFitting = !this.#isUnusual && this.#has(length) && this.#listed <= LISTED_MAX;
    return isFitting ? length : this.#unusual();
  }

  #unusual(): number {
    this.#isUnusual = true;
    return UNUSUAL;
  }
}

function u16At(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

function u32At(bytes: Uint8Array, at: number): number {
  return ((u16At(bytes, at) << 16) | u16At(bytes, at + 2)) >>> 0;
}

/** Words of the protocol, to be had without making a string: by length, then compared. */
const KNOWN = [
  ...["type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium"],
  ...["lora_name", "extra_keys", "group_idx", "kv_cache_spec_kind"],
  ...["BlockStored", "BlockRemoved", "AllBlocksCleared", "GPU", "CPU", "full_attention"],
];
/** Longer texts are not looked for among them. */
const KNOWN_LENGTH = 32;
/** By length and first byte: a word that meets another there is only slower. */
const KNOWN_BY_ENDS: (readonly [string, Uint8Array])[] = [];
for (const word of KNOWN) {
  KNOWN_BY_ENDS[slotOf(word.charCodeAt(0), word.length)] = [word, new TextEncoder().encode(word)];
}

function slotOf(first: number, length: number): number {
  return length * 128 + (first & 0x7f);
}

function knownText(bytes: Uint8Array, start: number, length: number): string | null {
  if (length > KNOWN_LENGTH) return null;
  const known = KNOWN_BY_ENDS[slotOf(bytes[start] ?? 0, length)];
  if (known === undefined) return null;
  const [word, expected] = known;
  for (let at = 0; at < length; at += 1) if (bytes[start + at] !== expected[at]) return null;
  return word;
}
