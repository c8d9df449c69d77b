/**
 * A snapshot of the residency as messages: one or more parts for each holder, then a head that
 * names them. Pure.
 *
 * A part is msgpack `[endpoint, rank, number, parts, cursor, handles, keys, copies, ambiguous]`: u64, u64 and
 * four u16 little endian per row, u64 per ambiguous key, of which the last parts tell. A holder's parts are made in one turn, so that rows and cursor fit together;
 * holders may differ in age, because each one's cursor says which batches of the log it has.
 */
import { Decoder, Encoder } from "@msgpack/msgpack";
import { z } from "zod";
import { messageOf } from "../core/errors.ts";
import { blockKey, endpointId, type Holder, isEndpointAddress, RANK_MAX } from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { BLOCK_SIZES_MAX } from "../indexer/holder-state.ts";
import type { BlockRecord, HolderCursor, Residency } from "../indexer/residency.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import { isLaneName } from "./copy-lanes.ts";
import { msgpackEnd } from "./msgpack-shape.ts";

/** Layout of head and parts. */
const LAYOUT = 5;
export const ROW_BYTES = 24;
/** Bytes of a part beside its rows. */
const PART_BYTES = 1024;
/** Part, cursor, groups. */
const DEPTH_MAX = 3;

export interface SnapshotPart {
  readonly holder: Holder;
  /** Which of the holder's parts it is, from 0. */
  readonly number: number;
  /** How many the holder has. */
  readonly parts: number;
  readonly cursor: HolderCursor;
  readonly rows: readonly (readonly [bigint, BlockRecord])[];
  readonly ambiguous: BigUint64Array;
}

export interface SnapshotHead {
  readonly layout: number;
  readonly keySeed: number;
  /** Token of the subjects of its parts. */
  readonly id: string;
  readonly parts: number;
  readonly rows: number;
  /** Position in the event log that every holder has at least reached. */
  readonly stream: string;
  readonly seq: number;
  /** Unix ms. */
  readonly atMs: number;
}

const headSchema = z.object({
  layout: z.literal(LAYOUT),
  keySeed: z.int(),
  id: z.string().regex(/^[A-Za-z0-9]{1,64}$/),
  parts: z.int().min(0),
  rows: z.int().min(0),
  stream: z.string(),
  seq: z.int().min(0),
  atMs: z.number(),
});

const cursorSchema = z
  .tuple([
    z.enum(["EXACT", "DEGRADED"]),
    z.string().nullable(),
    z.int().min(1),
    z.int().min(-1),
    z.number().min(0),
    z.array(z.int().positive().max(BLOCK_SIZE_TOKENS_MAX)).max(BLOCK_SIZES_MAX),
    z.string(),
    z.array(z.int().min(0)),
    z.array(z.string().refine(isLaneName)),
  ])
  .transform(
    ([
      state,
      reason,
      epoch,
      seq,
      engineMs,
      blockSizesTokens,
      model,
      ignoredGroups,
      lanes,
    ]): HolderCursor => ({
      ...{ state, reason, epoch, seq, engineMs, blockSizesTokens, model, ignoredGroups, lanes },
    }),
  );

const partSchema = z
  .tuple([
    z.string().refine(isEndpointAddress, "not host:port"),
    z.int().min(0).max(RANK_MAX),
    z.int().min(0),
    z.int().min(1),
    cursorSchema,
    z.instanceof(Uint8Array),
    z.instanceof(Uint8Array),
    z.instanceof(Uint8Array),
    z.instanceof(Uint8Array).refine(({ length }) => length % 8 === 0, "not whole keys"),
  ])
  .refine(
    ([, , , , , handles, keys, copies]) =>
      handles.length % 8 === 0 && keys.length === handles.length && copies.length === keys.length,
    "columns differ",
  );

const encoder = new Encoder();
const decoder = new Decoder({ maxArrayLength: 16, maxMapLength: 0, maxExtLength: 0 });

export function encodeHead(head: Omit<SnapshotHead, "layout">): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ layout: LAYOUT, ...head }));
}

export function decodeHead(
  text: string,
  keySeed: number,
): Result<SnapshotHead, "malformed" | "other-layout" | "other-key-seed"> {
  let fields: unknown;
  try {
    fields = JSON.parse(text);
  } catch (error) {
    return refused("malformed", messageOf(error));
  }
  const version = z.object({ layout: z.int() }).safeParse(fields);
  if (version.success && version.data.layout !== LAYOUT) {
    return refused("other-layout", `layout ${version.data.layout}, this is ${LAYOUT}`);
  }
  const head = headSchema.safeParse(fields);
  if (!head.success) return refused("malformed", z.prettifyError(head.error));
  if (head.data.keySeed !== keySeed) {
    return refused("other-key-seed", `index.keySeed ${head.data.keySeed}, this is ${keySeed}`);
  }
  return ok(head.data);
}

/** All parts of one holder, at least one; none of a holder of which nothing is known. */
export function encodeParts(
  residency: Residency,
  holder: Holder,
  partBytesMax: number,
): Uint8Array[] {
  const cursor = residency.cursorOf(holder);
  if (cursor === null) return [];
  const rows = residency.blocksOf(holder);
  const handles = new BigUint64Array(rows);
  const keys = new BigUint64Array(rows);
  const copies = new Uint16Array(rows * 4);
  let row = 0;
  for (const [handle, record] of residency.records(holder)) {
    handles[row] = handle;
    keys[row] = record.key;
    copies.set(record.copies, row * 4);
    row += 1;
  }
  const { state, reason, epoch, seq, engineMs, blockSizesTokens, model, ignoredGroups } = cursor;
  const { lanes = [] } = cursor;
  const place = [epoch, seq, engineMs, blockSizesTokens, model, ignoredGroups, lanes];
  const cursorFields = [state, reason, ...place];
  const ambiguous = residency.ambiguousKeys(holder);
  const rowsMax = Math.max(1, Math.floor((partBytesMax - PART_BYTES) / ROW_BYTES));
  const rowParts = Math.ceil(rows / rowsMax);
  const partCount = Math.max(1, rowParts + Math.ceil(ambiguous.length / rowsMax));
  return Array.from({ length: partCount }, (_, part) => {
    const [start, end] = [part * rowsMax, (part + 1) * rowsMax];
    const keyStart = Math.max(0, part - rowParts) * rowsMax;
    const keyEnd = Math.max(0, part + 1 - rowParts) * rowsMax;
    return encoder.encode([
      ...[holder.endpointId, holder.rank, part, partCount, cursorFields],
      ...[bytesOf(handles.subarray(start, end)), bytesOf(keys.subarray(start, end))],
      ...[
        bytesOf(copies.subarray(start * 4, end * 4)),
        bytesOf(ambiguous.subarray(keyStart, keyEnd)),
      ],
    ]);
  });
}

export function decodePart(data: Uint8Array): Result<SnapshotPart, "malformed"> {
  const end = msgpackEnd(data, { depthMax: DEPTH_MAX });
  if (!end.ok) return refused("malformed", end.detail);
  let fields: unknown;
  try {
    fields = decoder.decode(data);
  } catch (error) {
    return refused("malformed", messageOf(error));
  }
  const part = partSchema.safeParse(fields);
  if (!part.success) return refused("malformed", z.prettifyError(part.error));
  const [endpoint, rank, number, parts, cursor, handleBytes, keyBytes, copyBytes, ambiguousBytes] =
    part.data;
  const handles = new BigUint64Array(new Uint8Array(handleBytes).buffer);
  const keys = new BigUint64Array(new Uint8Array(keyBytes).buffer);
  const copies = new Uint16Array(new Uint8Array(copyBytes).buffer);
  const rows = Array.from(handles, (handle, row): readonly [bigint, BlockRecord] => [
    handle,
    { key: blockKey(keys[row] ?? 0n), copies: [...copies.subarray(row * 4, row * 4 + 4)] },
  ]);
  const ambiguous = new BigUint64Array(new Uint8Array(ambiguousBytes).buffer);
  const holder = { endpointId: endpointId(endpoint), rank };
  return ok({ holder, number, parts, cursor, rows, ambiguous });
}

function bytesOf(words: BigUint64Array | Uint16Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}
