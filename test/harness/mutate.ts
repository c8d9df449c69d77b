/** Payloads gone wrong: bytes flipped, cut, doubled, moved, and heads that claim too much. */
import type { Random } from "../../src/core/random.ts";

/** Changes made to one payload. */
const CHANGES_MAX = 4;
/** Longest part that is cut out or doubled. */
const PART_BYTES_MAX = 64;
/** Heads with absurd lengths, ends of integer ranges, and the brackets of JSON. */
const NASTY = [
  [0xdd, 0xff, 0xff, 0xff, 0xff],
  [0xdf, 0x7f, 0xff, 0xff, 0xff],
  [0xdc, 0xff, 0xff],
  [0xc6, 0x00, 0xff, 0xff, 0xff],
  [0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
  [0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0],
  [0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
  [0xc0],
  [0xc1],
  [0x5b],
  [0x7b],
  [0x22],
  [...Buffer.from("18446744073709551616")],
  [...Buffer.from("-1e999")],
  [...Buffer.from('{"__proto__":1}')],
];

export function mutatePayload(payload: Uint8Array, random: Random): Uint8Array {
  let bytes = payload;
  const changes = 1 + below(CHANGES_MAX, random);
  for (let change = 0; change < changes; change += 1) bytes = mutateOnce(bytes, random);
  return bytes;
}

function mutateOnce(bytes: Uint8Array, random: Random): Uint8Array {
  const at = below(bytes.length, random);
  const end = Math.min(bytes.length, at + 1 + below(PART_BYTES_MAX, random));
  switch (below(6, random)) {
    case 0: {
      const flipped = Uint8Array.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << below(8, random));
      return flipped;
    }
    case 1: {
      const changed = Uint8Array.from(bytes);
      changed[at] = below(256, random);
      return changed;
    }
    case 2:
      return bytes.slice(0, at);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
    case 4:
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
    default: {
      const nasty = Uint8Array.from(NASTY[below(NASTY.length, random)] ?? []);
      const kept = random.next() < 0.5 ? at : Math.min(bytes.length, at + nasty.length);
      return Buffer.concat([bytes.subarray(0, at), nasty, bytes.subarray(kept)]);
    }
  }
}

function below(limit: number, random: Random): number {
  return Math.floor(random.next() * limit);
}
