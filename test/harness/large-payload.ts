/** Payloads up to the limit of bytes, made of one small value again and again: what takes most memory. */
import type { Random } from "../../src/core/random.ts";
import { PAYLOAD_BYTES_MAX } from "../../src/events/event-payload.ts";

/** `[1.0, ` of a batch; a list of events follows. */
const BATCH = [0x92, 0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];
/** The beginning of a map form's BlockRemoved, up to its list. */
const REMOVED = [0x82, ...text("type"), ...text("BlockRemoved"), ...text("block_hashes")];
/** The beginning of an array form's BlockStored, up to its list. */
const STORED = [0x95, ...text("BlockStored")];

const UNITS: readonly (readonly number[])[] = [
  ...[[0x90], [0x80], [0xc0], [0x01], [0xa0], [0xa1, 0x61], [0x91, 0x90], [0x92, 0x01, 0x02]],
  ...[
    [0x81, 0xa1, 0x61, 0x01],
    [0xc4, 0x00],
    [0xd4, 0x00, 0x00],
    [0xc4, 8, 1, 2, 3, 4, 5, 6, 7, 8],
  ],
  [0xce, 0xff, 0xff, 0xff, 0xff],
  [0xca, 0x3f, 0x80, 0, 1],
  [0xcf, 0xff, 0, 0, 0, 0, 0, 0, 1],
  [0xd3, 0x80, 0, 0, 0, 0, 0, 0, 1],
  [0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 1],
  [0x91, ...text("AllBlocksCleared")],
  [0x92, ...text("BlockRemoved"), 0x91, 0x01],
  [0x95, ...text("BlockStored"), 0x91, 0x01, 0xc0, 0x91, 0x01, 0x01],
  [...REMOVED, 0x91, 0x01],
];
const JSON_UNITS = [
  ...["[]", "{}", "1", '""', '"ab"', "null", "1.5", "1234567890123456789", '{"a":1}', "[[]]"],
  '{"event_id":1}',
  '{"event_id":1,"data":{"type":"removed","block_hashes":[1]}}',
  '{"event":{"event_id":1,"data":{"removed":{"block_hashes":[1]}}}}',
];

export function largePayload(random: Random): Uint8Array {
  const bytesMax = Math.floor(PAYLOAD_BYTES_MAX / 2 ** (10 * random.next()));
  return random.next() < 0.3 ? jsonOf(bytesMax, random) : msgpackOf(bytesMax, random);
}

function msgpackOf(bytesMax: number, random: Random): Uint8Array {
  const unit = chosen(UNITS, random);
  const inner = chosen([[], [0x91, ...REMOVED], [0x91, ...STORED]], random);
  const start = [...BATCH, ...inner];
  const units = Math.floor((bytesMax - start.length - 5) / unit.length);
  const head = Buffer.from([...start, 0xdd, 0, 0, 0, 0]);
  head.writeUInt32BE(units, head.length - 4);
  return Buffer.concat([head, Buffer.alloc(units * unit.length, Buffer.from(unit))]);
}

function jsonOf(bytesMax: number, random: Random): Uint8Array {
  const unit = chosen(JSON_UNITS, random);
  const units = Math.floor((bytesMax - unit.length - 2) / (unit.length + 1));
  return Buffer.from(`[${`${unit},`.repeat(units)}${unit}]`);
}

function text(value: string): number[] {
  return [0xa0 | value.length, ...Buffer.from(value)];
}

function chosen<Choice>(all: readonly Choice[], random: Random): Choice {
  const choice = all[Math.floor(random.next() * all.length)];
  if (choice === undefined) throw new Error("nothing to choose from");
  return choice;
}
