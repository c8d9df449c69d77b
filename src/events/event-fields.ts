/** Fields of engines' events, read and checked: undefined means a bad value, wherever it came from. */
import { type EngineKey, engineKey } from "../core/ids.ts";
import { Slab } from "../core/slab.ts";
import type { ExtraKey } from "../keys/extra-keys.ts";
import { markedInteger } from "./json-values.ts";
import type { BlockStored } from "./kv-event.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** Nesting of extras that is accepted: vLLM's deepest is a pair in a list. */
const EXTRA_DEPTH_MAX = 4;
const TOKEN_ID_MAX = 0xffff_ffff;
/** The integers between which a number holds each. */
const PLAIN_MIN = -(2n ** 53n);
const PLAIN_MAX = 2n ** 53n;
const slab = new Slab();
/** At least 64 bits in hex. */
const HEX_HASH = /^(0x)?[0-9a-fA-F]{16,128}$/;

/** An absent or nil field is null. */
export function readNullable<Value>(
  value: unknown,
  read: (present: unknown) => Value | undefined,
): Value | null | undefined {
  return value === undefined || value === null ? null : read(value);
}

/** Low 64 bits of an integer of either sign, of 8 bytes or more, or of 16 hex digits or more. */
export function readHash(value: unknown): EngineKey | undefined {
  if (typeof value === "bigint") return engineKey(value);
  if (typeof value === "number" && isPlain(value)) return engineKey(BigInt(value));
  if (typeof value === "string") {
    const integer = markedInteger(value);
    if (integer !== null) return engineKey(integer);
    return HEX_HASH.test(value) ? engineKey(BigInt(`0x${value.slice(-16)}`)) : undefined;
  }
  if (!(value instanceof Uint8Array) || value.length < 8) return undefined;
  return engineKey(new DataView(value.buffer, value.byteOffset + value.length - 8).getBigUint64(0));
}

export function readHashes(value: unknown): BigUint64Array | undefined {
  if (!Array.isArray(value)) return undefined;
  // A piece of a slab: a message may have thousands of lists, and an array's own buffer takes 300 bytes.
  const place = slab.take(2 * value.length);
  const { buffer, words } = slab;
  for (let position = 0; position < value.length; position += 1) {
    const hash: unknown = value[position];
    const at = place / 4 + 2 * position;
    // A list may hold a million: no bigint is made for any of them.
    if (isCount(hash, TOKEN_ID_MAX)) {
      words[at] = hash;
      words[at + 1] = 0;
      continue;
    }
    const handle = readHash(hash);
    if (handle === undefined) return undefined;
    words[at] = Number(handle & 0xffff_ffffn);
    words[at + 1] = Number(handle >> 32n);
  }
  return new BigUint64Array(buffer, place, value.length);
}

/** Token ids of JSON. */
export function readTokens(value: unknown): Uint32Array | undefined {
  if (!Array.isArray(value)) return undefined;
  const tokens = new Uint32Array(value.length);
  for (let position = 0; position < value.length; position += 1) {
    const token: unknown = value[position];
    if (!isCount(token, TOKEN_ID_MAX)) return undefined;
    tokens[position] = token;
  }
  return tokens;
}

export function readExtraKeys(value: unknown): BlockStored["extraKeys"] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.every((block) => block === null || isExtras(block, 0)) ? value : undefined;
}

function isExtras(value: unknown, depth: number): value is readonly ExtraKey[] {
  if (!Array.isArray(value) || depth > EXTRA_DEPTH_MAX) return false;
  return value.every((each) => isExtra(each) || isExtras(each, depth + 1));
}

function isExtra(value: unknown): boolean {
  return (
    value === null ||
    value instanceof Uint8Array ||
    ["string", "number", "bigint", "boolean"].includes(typeof value)
  );
}

function isPlain(number: number): boolean {
  return Number.isInteger(number) && Math.abs(number) <= Number(PLAIN_MAX);
}

/** A number where that holds every bit: up to 2^53. */
export function plainInteger(integer: bigint): number | bigint {
  const isSafe = integer >= PLAIN_MIN && integer <= PLAIN_MAX;
  return isSafe ? Number(integer) : integer;
}

export function readString(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

export function readCount(value: unknown): number | undefined {
  return isCount(value, Number.MAX_SAFE_INTEGER) ? value : undefined;
}

/** Of any sign and size. */
export function readInteger(value: unknown): number | bigint | undefined {
  const isInteger = typeof value === "bigint" || Number.isInteger(value);
  return isInteger ? (value as number | bigint) : undefined;
}

/** An unsigned integer of 64 bits: a number where that holds it. */
export function readId(value: unknown): number | bigint | undefined {
  const marked = typeof value === "string" ? markedInteger(value) : value;
  const id = typeof marked === "bigint" ? plainInteger(marked) : marked;
  if (typeof id === "bigint") return id === BigInt.asUintN(64, id) ? id : undefined;
  return isCount(id, Number(PLAIN_MAX)) ? id : undefined;
}

export function isCount(value: unknown, max: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max;
}

/** Whether it may have fields by name; arrays have none of the names asked for. */
export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !(value instanceof Uint8Array);
}
