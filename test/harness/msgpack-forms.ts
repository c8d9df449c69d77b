/** Values in msgpack's longer forms, which are as valid as the shortest, and which encoders here never write. */
import type { Random } from "../../src/core/random.ts";

type Value = null | boolean | number | bigint | string | Uint8Array | readonly Value[] | Fields;
interface Fields {
  readonly [name: string]: Value;
}

/** Integers, lengths of texts, lists and maps each in one of the forms that hold it, at random. */
export function encodedAnyhow(value: unknown, random: Random): Uint8Array {
  return Buffer.from(bytesOf(value as Value, random));
}

function bytesOf(value: Value, random: Random): number[] {
  if (value === null) return [0xc0];
  if (typeof value === "boolean") return [value ? 0xc3 : 0xc2];
  if (typeof value === "bigint") return integerOf(value, random);
  if (typeof value === "number") {
    if (Number.isSafeInteger(value)) return integerOf(BigInt(value), random);
    const bytes = Buffer.alloc(9, 0xcb);
    bytes.writeDoubleBE(value, 1);
    return [...bytes];
  }
  if (typeof value === "string") {
    const letters = [...Buffer.from(value)];
    return [...headOf([0xd9, 0xda, 0xdb], letters.length, random), ...letters];
  }
  if (value instanceof Uint8Array) {
    return [...headOf([0xc4, 0xc5, 0xc6], value.length, random), ...value];
  }
  if (Array.isArray(value)) {
    const head = headOf([null, 0xdc, 0xdd], value.length, random);
    return [...head, ...value.flatMap((each) => bytesOf(each, random))];
  }
  const fields = Object.entries(value as Fields);
  const head = headOf([null, 0xde, 0xdf], fields.length, random);
  return [...head, ...fields.flat().flatMap((each) => bytesOf(each, random))];
}

/** Unsigned and signed, of 1, 2, 4 and 8 bytes. */
export function integerForms(integer: bigint): number[][] {
  return [0xcc, 0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3].flatMap((head) => {
    const bits = 8 << ((head - 0xcc) % 4);
    const held = head < 0xd0 ? BigInt.asUintN(bits, integer) : BigInt.asIntN(bits, integer);
    return held === integer ? [[head, ...bigEndian(integer, bits / 8)]] : [];
  });
}

function integerOf(integer: bigint, random: Random): number[] {
  const short = integer >= -32n && integer < 128n ? [[Number(BigInt.asUintN(8, integer))]] : [];
  return chosen([...short, ...integerForms(integer)], random);
}

/** Heads with a length of 1, 2 and 4 bytes; null: there is none of 1 byte. */
function headOf(heads: readonly (number | null)[], length: number, random: Random): number[] {
  const forms = heads.flatMap((head, power) =>
    head === null || length >= 2 ** (8 << power)
      ? []
      : [[head, ...bigEndian(BigInt(length), 1 << power)]],
  );
  return chosen(forms, random);
}

function bigEndian(integer: bigint, bytes: number): number[] {
  const digits = BigInt.asUintN(8 * bytes, integer).toString(16);
  return [...Buffer.from(digits.padStart(2 * bytes, "0"), "hex")];
}

function chosen(forms: readonly number[][], random: Random): number[] {
  const form = forms[Math.floor(random.next() * forms.length)];
  if (form === undefined) throw new Error("no form holds the value");
  return form;
}
