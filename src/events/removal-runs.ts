/**
 * Runs of removals as one event. Engines tell of each evicted block by itself, all of a scheduler's step
 * one behind the other: together they are looked up while memory is waited for once.
 */
import { assert } from "../core/assert.ts";
import { Slab } from "../core/slab.ts";
import type { BlockRemoved, KvEvent } from "./kv-event.ts";

const slab = new Slab();
const NO_HANDLES = new BigUint64Array(0);

/** Where the run ends that begins with the removal at `start`: events of its medium and group. */
export function endOfRemovals(events: readonly KvEvent[], start: number): number {
  const first = events[start];
  assert(first?.type === "removed", "a run begins with a removal");
  const { medium, group } = first;
  let end = start + 1;
  for (; end < events.length; end += 1) {
    const event = events[end];
    if (event?.type !== "removed" || event.medium !== medium || event.group !== group) break;
  }
  return end;
}

/** The removals from `start` to `end` as one. */
export function joinedRemovals(
  events: readonly KvEvent[],
  start: number,
  end: number,
): BlockRemoved {
  const first = events[start];
  assert(first?.type === "removed", "a run begins with a removal");
  const { buffer, byteOffset } = first.handles;
  let length = 0;
  let isOnePiece = true;
  for (let at = start; at < end; at += 1) {
    const own = handlesOf(events[at]);
    isOnePiece &&= own.buffer === buffer && own.byteOffset === byteOffset + 8 * length;
    length += own.length;
  }
  // As a scan leaves them: one behind the other.
  if (isOnePiece) return { ...first, handles: new BigUint64Array(buffer, byteOffset, length) };
  const handles = slab.u64(length);
  let taken = 0;
  for (let at = start; at < end; at += 1) {
    const own = handlesOf(events[at]);
    handles.set(own, taken);
    taken += own.length;
  }
  return { ...first, handles };
}

function handlesOf(event: KvEvent | undefined): BigUint64Array {
  return event?.type === "removed" ? event.handles : NO_HANDLES;
}
