/** Payloads up to the limit of bytes, made of one small value again and again: what takes most memory. */
import type { Random } from "../../src/core/random.ts";
import { PAYLOAD_BYTES_MAX } from "../../src/events/event-payload.ts";
import { EVENTS_MAX } from "../../src/events/kv-event.ts";

/** `[1.0, ` of a batch; a list of events follows. */
const BATCH = [0x92, 0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];
/** The beginning of a map form's BlockRemoved, up to its list. */
const REMOVED = [0x82, ...text("type"), ...text("BlockRemoved"), ...text("block_hashes")];
/** The beginning of an array form's BlockStored, up to its list. */
const STORED = [0x95, ...text("BlockStored")];

/** The same with extras. */
const STORED_9 = [0x99, ...text("BlockStored")];
const EXTRAS = [0x91, 0x93, 0x91, 0x91, ...text("x"), 0xc3, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0];
const BEFORE_EXTRAS = [0x91, 0x01, 0xc0, 0x91, 0x01, 0x01, 0xc0, 0xc0, 0xc0];
/** 1 in nine bytes. */
const LONG = [0xcf, 0, 0, 0, 0, 0, 0, 0, 1];

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
  // What the scan leaves to the general decoder.
  [...REMOVED, 0x91, ...LONG],
  [...STORED, 0x91, ...LONG, ...LONG, 0x91, ...LONG, ...LONG],
  [...STORED, 0x91, 0x01, 0xc0, 0x91, 0xff, 0x01],
  [...STORED, 0x91, 0x01, 0xc0, 0x92, ...LONG, 0xff, 0x01],
  [...STORED, 0x91, 0x01, 0xc0, 0x91, 0x92, 0x01, 0x02, 0x01],
  [...STORED_9, ...BEFORE_EXTRAS, ...EXTRAS],
  [0x83, ...text("type"), ...text("BlockRemoved"), 0xc0, 0x01, ...text("block_hashes"), 0x90],
  [0x81, ...text("type"), ...text("BlockMoved")],
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
  const lists = [REMOVED, ...["block_hashes", "token_ids", "extra_keys"].map(storedUpTo)];
  const inner = chosen([[], [], ...lists.map((list) => [0x91, ...list])], random);
  const start = [...BATCH, ...inner];
  const unitsMax = inner.length === 0 && random.next() < 0.8 ? EVENTS_MAX : PAYLOAD_BYTES_MAX;
  const units = Math.min(unitsMax, Math.floor((bytesMax - start.length - 5) / unit.length));
  const head = Buffer.from([...start, 0xdd, 0, 0, 0, 0]);
  head.writeUInt32BE(units, head.length - 4);
  return Buffer.concat([head, Buffer.alloc(units * unit.length, Buffer.from(unit))]);
}

/** A map form's BlockStored up to this list, which is its last field. */
function storedUpTo(list: string): number[] {
  const others = ["block_hashes", "token_ids"].filter((name) => name !== list);
  const fields = others.flatMap((name) => [...text(name), 0x91, 0x01]);
  const head = [0x83 + others.length, ...text("type"), ...text("BlockStored")];
  return [...head, ...text("block_size"), 0x01, ...fields, ...text(list)];
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
