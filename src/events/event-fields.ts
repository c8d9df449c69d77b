/** Fields of engines' events, read and checked: undefined means a bad value, wherever it came from. */
import { type EngineKey, engineKey } from "../core/ids.ts";
import type { ExtraKey } from "../keys/extra-keys.ts";
import { markedInteger } from "./json-values.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** Nesting of extras that is accepted: vLLM's deepest is a pair in a list. */
const EXTRA_DEPTH_MAX = 4;
const TOKEN_ID_MAX = 0xffff_ffff;
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
  if (typeof value === "number" && Number.isSafeInteger(value)) return engineKey(BigInt(value));
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
  const handles = new BigUint64Array(value.length);
  const words = new Uint32Array(handles.buffer);
  for (let position = 0; position < value.length; position += 1) {
    const hash: unknown = value[position];
    // A list may hold a million: no bigint is made for any of them.
    if (isCount(hash, TOKEN_ID_MAX)) {
      words[2 * position] = hash;
      continue;
    }
    const handle = readHash(hash);
    if (handle === undefined) return undefined;
    handles[position] = handle;
  }
  return handles;
}

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

export function readExtraKeys(value: unknown): (readonly ExtraKey[] | null)[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const blocks: (readonly ExtraKey[] | null)[] = [];
  for (const entry of value) {
    if (entry === null) blocks.push(null);
    else if (Array.isArray(entry) && entry.every((extra) => isExtraKey(extra, 0)))
      blocks.push(entry.map(plainExtra));
    else return undefined;
  }
  return blocks;
}

/** msgpack gives every integer of 9 bytes as a bigint; those that a number holds are numbers. */
function plainExtra(extra: ExtraKey): ExtraKey {
  return Array.isArray(extra) ? extra.map(plainExtra) : (plainInteger(extra) as ExtraKey);
}

function plainInteger(value: unknown): unknown {
  if (typeof value !== "bigint") return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function isExtraKey(value: unknown, depth: number): value is ExtraKey {
  if (value === null || value instanceof Uint8Array) return true;
  if (Array.isArray(value)) {
    return depth < EXTRA_DEPTH_MAX && value.every((inner) => isExtraKey(inner, depth + 1));
  }
  return typeof value === "string" || typeof value === "number" || typeof value === "bigint";
}

export function readString(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

export function readCount(value: unknown): number | undefined {
  const count = plainInteger(value);
  return isCount(count, Number.MAX_SAFE_INTEGER) ? count : undefined;
}

/** An unsigned integer of 64 bits: a number where that holds it. */
export function readId(value: unknown): number | bigint | undefined {
  const id = plainInteger(typeof value === "string" ? markedInteger(value) : value);
  if (typeof id === "bigint") return id === BigInt.asUintN(64, id) ? id : undefined;
  return isCount(id, Number.MAX_SAFE_INTEGER) ? id : undefined;
}

export function isCount(value: unknown, max: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max;
}

/** Whether it may have fields by name; arrays have none of the names asked for. */
export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !(value instanceof Uint8Array);
}
