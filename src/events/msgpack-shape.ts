/**
 * Walks over msgpack bytes before anything is read of them: lengths must fit, and nesting has a limit.
 *
 * A reader allocates an array as long as its head claims. Arrays inside each other, five bytes each,
 * would so make it take gigabytes for a message of a few kilobytes. After this walk no more values are
 * read than there are bytes, and no read goes beyond them. Cost: about 2 ns per byte.
 */
import { ok, type Result, refused } from "../core/result.ts";

export interface Form {
  /** Bytes of the length that follows the head; 0 when there is none. */
  readonly lengthBytes: number;
  /** Bytes of the value itself, besides those that the length tells. */
  readonly bytes: number;
  /** Values inside for each unit of the length: 0 for bytes, 1 for arrays, 2 for maps. */
  readonly values: 0 | 1 | 2;
}

const plain = (bytes: number): Form => ({ lengthBytes: 0, bytes, values: 0 });
const run = (lengthBytes: number, bytes = 0): Form => ({ lengthBytes, bytes, values: 0 });
const nest = (lengthBytes: number, values: 1 | 2): Form => ({ lengthBytes, bytes: 0, values });

/** Forms of the heads 0xc0 to 0xdf; 0xc1 is never used. */
const FORMS: readonly (Form | null)[] = [
  ...[plain(0), null, plain(0), plain(0)],
  // Bytes, extensions, floats.
  ...[run(1), run(2), run(4), run(1, 1), run(2, 1), run(4, 1), plain(4), plain(8)],
  // Integers without and with a sign, extensions of fixed length.
  ...[1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17].map((bytes) => plain(bytes)),
  ...[run(1), run(2), run(4), nest(2, 1), nest(4, 1), nest(2, 2), nest(4, 2)],
];

/** Where the value ends that the bytes begin with; its nesting is at most `depthMax` deep. */
export function msgpackEnd(
  bytes: Uint8Array,
  { depthMax }: { readonly depthMax: number },
): Result<number, "not-msgpack"> {
  const problem = (detail: string): Result<never, "not-msgpack"> => refused("not-msgpack", detail);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  /** Values still to come at each level. */
  const open = new Float64Array(depthMax + 1).fill(1, 0, 1);
  let depth = 0;
  let at = 0;
  while (depth >= 0) {
    const left = open[depth] ?? 0;
    if (left === 0) {
      depth -= 1;
      continue;
    }
    open[depth] = left - 1;
    if (at >= bytes.length) return problem(`${bytes.length} bytes end inside a value`);
    const head = view.getUint8(at);
    at += 1;
    if (head < 0x80 || head >= 0xe0) continue;
    let inside = 0;
    if (head < 0x90) inside = 2 * (head & 0x0f);
    else if (head < 0xa0) inside = head & 0x0f;
    else if (head < 0xc0) at += head & 0x1f;
    else {
      const form = formOf(head);
      if (form === null) return problem(`byte ${at - 1} is no msgpack head`);
      if (at + form.lengthBytes > bytes.length)
        return problem(`${bytes.length} bytes end inside a head`);
      const length = lengthAt(view, at, form.lengthBytes);
      at += form.lengthBytes + form.bytes + (form.values === 0 ? length : 0);
      inside = length * form.values;
    }
    if (at + inside > bytes.length)
      return problem(`a length goes beyond the ${bytes.length} bytes`);
    if (inside === 0) continue;
    if (depth === depthMax) return problem(`nested deeper than ${depthMax}`);
    depth += 1;
    open[depth] = inside;
  }
  return ok(at);
}

/** Of a head from 0xc0 to 0xdf. */
export function formOf(head: number): Form | null {
  return FORMS[head - 0xc0] ?? null;
}

export function lengthAt(view: DataView, at: number, lengthBytes: number): number {
  if (lengthBytes === 0) return 0;
  if (lengthBytes === 1) return view.getUint8(at);
  return lengthBytes === 2 ? view.getUint16(at) : view.getUint32(at);
}
