/**
 * Walks over msgpack bytes before they are decoded: lengths must fit, and nesting has a limit, and
 * so has the memory that the values take.
 *
 * The decoder allocates an array as long as its head claims. Arrays inside each other, five bytes
 * each, would so make it take gigabytes for a message of a few kilobytes. After this walk no more
 * values are decoded than there are bytes, and what V8 takes for these is known, within about a
 * quarter. Cost: about 2 ns per byte.
 */

/** What V8 takes for a value beside the bytes of a text or the slots of a list, heap bytes. */
const SLOT_BYTES = 8;
const ARRAY_BYTES = 48;
const MAP_BYTES = 96;
/** Bigint, fraction; an integer of 4 bytes may not fit into its slot. */
const BOXED_BYTES = 24;
/** Text, most of it the list of its letters that the decoder makes it from. */
const TEXT_BYTES = 112;
const EMPTY_TEXT = 0xa0;
/** A view on the message. */
const VIEW_BYTES = 128;

interface Form {
  /** Bytes of the length that follows the head; 0 when there is none. */
  readonly lengthBytes: number;
  /** Bytes of the value itself, besides those that the length tells. */
  readonly bytes: number;
  /** Values inside for each unit of the length: 0 for bytes, 1 for arrays, 2 for maps. */
  readonly values: 0 | 1 | 2;
  readonly heapBytes: number;
}

const plain = (bytes: number, heapBytes = bytes < 4 ? 0 : BOXED_BYTES): Form => {
  return { lengthBytes: 0, bytes, values: 0, heapBytes };
};
const run = (lengthBytes: number, heapBytes: number, bytes = 0): Form => {
  return { lengthBytes, bytes, values: 0, heapBytes };
};
const nest = (lengthBytes: number, values: 1 | 2): Form => {
  return { lengthBytes, bytes: 0, values, heapBytes: values === 1 ? ARRAY_BYTES : MAP_BYTES };
};

/** Forms of the heads 0xc0 to 0xdf; 0xc1 is never used. */
const FORMS: readonly (Form | null)[] = [
  ...[plain(0), null, plain(0), plain(0)],
  ...[run(1, VIEW_BYTES), run(2, VIEW_BYTES), run(4, VIEW_BYTES)],
  ...[run(1, VIEW_BYTES, 1), run(2, VIEW_BYTES, 1), run(4, VIEW_BYTES, 1)],
  ...[4, 8, 1, 2].map((bytes) => plain(bytes)),
  ...[plain(4, 0), plain(8), plain(1), plain(2), plain(4, 0), plain(8)],
  ...[2, 3, 5, 9, 17].map((bytes) => plain(bytes, VIEW_BYTES)),
  ...[run(1, TEXT_BYTES), run(2, TEXT_BYTES), run(4, TEXT_BYTES)],
  ...[nest(2, 1), nest(4, 1), nest(2, 2), nest(4, 2)],
];

export interface MsgpackShapeProblem {
  readonly reason: "not-msgpack" | "oversized";
  readonly detail: string;
}

/**
 * Null when the bytes begin with one whole value; what is wrong otherwise. `heapBytesMax`: memory of
 * the decoded values; default: no bound but that of the bytes. `floatsAt`: takes the places of all floats.
 */
export function msgpackShapeProblem(
  bytes: Uint8Array,
  limits: {
    readonly depthMax: number;
    readonly heapBytesMax?: number;
    readonly floatsAt?: number[];
  },
): MsgpackShapeProblem | null {
  const { depthMax, heapBytesMax = Number.POSITIVE_INFINITY, floatsAt } = limits;
  const problem = (detail: string): MsgpackShapeProblem => ({ reason: "not-msgpack", detail });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  /** Values still to come at each level. */
  const open = new Float64Array(depthMax + 1).fill(1, 0, 1);
  let depth = 0;
  let at = 0;
  let heapBytes = 0;
  while (depth >= 0) {
    const left = open[depth] ?? 0;
    if (left === 0) {
      depth -= 1;
      continue;
    }
    open[depth] = left - 1;
    heapBytes += SLOT_BYTES;
    if (at >= bytes.length) return problem(`${bytes.length} bytes end inside a value`);
    const head = view.getUint8(at);
    at += 1;
    if (head < 0x80 || head >= 0xe0) continue;
    let inside = 0;
    if (head < 0x90) {
      inside = 2 * (head & 0x0f);
      heapBytes += MAP_BYTES;
    } else if (head < 0xa0) {
      inside = head & 0x0f;
      heapBytes += ARRAY_BYTES;
    } else if (head < 0xc0) {
      at += head & 0x1f;
      heapBytes += head === EMPTY_TEXT ? BOXED_BYTES : TEXT_BYTES + 2 * (head & 0x1f);
    } else {
      const form = FORMS[head - 0xc0];
      if (form === null || form === undefined) return problem(`byte ${at - 1} is no msgpack head`);
      if (at + form.lengthBytes > bytes.length)
        return problem(`${bytes.length} bytes end inside a head`);
      const length = lengthAt(view, at, form.lengthBytes);
      heapBytes += form.heapBytes + (form.heapBytes === TEXT_BYTES ? 2 * length : 0);
      if (head === 0xce && (bytes[at] ?? 0) >= 0x80) heapBytes += BOXED_BYTES;
      if (isFloat(head)) floatsAt?.push(at - 1);
      at += form.lengthBytes + form.bytes + (form.values === 0 ? length : 0);
      inside = length * form.values;
    }
    if (at + inside > bytes.length)
      return problem(`a length goes beyond the ${bytes.length} bytes`);
    if (heapBytes > heapBytesMax) {
      return {
        reason: "oversized",
        detail: `values of over ${heapBytesMax} bytes of memory`,
      };
    }
    if (inside === 0) continue;
    if (depth === depthMax) return problem(`nested deeper than ${depthMax}`);
    depth += 1;
    open[depth] = inside;
  }
  return null;
}

function isFloat(head: number): boolean {
  return head === 0xca || head === 0xcb;
}

/**
 * The same bytes with a map in place of each of these floats, of as many bytes and with names that no
 * field has: decoded, a float of 1 could not be told from an integer.
 */
export function withoutFloats(bytes: Uint8Array, floatsAt: readonly number[]): Uint8Array {
  const copy = Uint8Array.from(bytes);
  for (const at of floatsAt) {
    const pairs = bytes[at] === 0xca ? 2 : 4;
    copy[at] = 0x80 | pairs;
    // Each pair: the empty text, nil.
    for (let pair = 0; pair < pairs; pair += 1) {
      copy[at + 1 + 2 * pair] = 0xa0;
      copy[at + 2 + 2 * pair] = 0xc0;
    }
  }
  return copy;
}

function lengthAt(view: DataView, at: number, lengthBytes: number): number {
  if (lengthBytes === 0) return 0;
  if (lengthBytes === 1) return view.getUint8(at);
  return lengthBytes === 2 ? view.getUint16(at) : view.getUint32(at);
}
