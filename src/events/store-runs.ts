/**
 * Runs of stores as one event. An engine that decodes tells of a block of each prompt that has filled one,
 * all of a scheduler's step one behind the other: together they are taken at a fraction of the cost.
 */
import { Slab } from "../core/slab.ts";
import type { BlockStored, KvEvent } from "./kv-event.ts";

const slab = new Slab();

/**
 * Where the run ends that begins with the store at `start`: events that differ in handles, tokens and
 * parent alone, and tell nothing that would need a look at each.
 */
export function endOfStores(events: readonly KvEvent[], start: number): number {
  const first = events[start];
  let end = start + 1;
  if (first?.type !== "stored" || !isPlain(first)) return end;
  for (; end < events.length; end += 1) {
    const event = events[end];
    if (event?.type !== "stored" || !isPlain(event) || !isAlike(event, first)) break;
  }
  return end;
}

/** The events from `start` to `end`, which are stores. */
export function storesOf(events: readonly KvEvent[], start: number, end: number): BlockStored[] {
  const run: BlockStored[] = [];
  for (let at = start; at < end; at += 1) {
    const event = events[at];
    if (event?.type === "stored") run.push(event);
  }
  return run;
}

/** The handles of a run, one behind the other. */
export function joinedHandles(run: readonly BlockStored[]): BigUint64Array {
  const { buffer, byteOffset } = run[0]?.handles ?? new BigUint64Array(0);
  let length = 0;
  let isOnePiece = true;
  for (const { handles } of run) {
    isOnePiece &&= handles.buffer === buffer && handles.byteOffset === byteOffset + 8 * length;
    length += handles.length;
  }
  // As a scan leaves them.
  if (isOnePiece) return new BigUint64Array(buffer, byteOffset, length);
  const joined = slab.u64(length);
  let taken = 0;
  for (const { handles } of run) {
    joined.set(handles, taken);
    taken += handles.length;
  }
  return joined;
}

function isPlain({
  handles,
  tokens,
  blockSizeTokens,
  extraKeys,
  cacheSalt,
  caveat,
}: BlockStored): boolean {
  if (extraKeys?.some((block) => block !== null) === true) return false;
  if (extraKeys !== null && extraKeys.length !== handles.length) return false;
  if (caveat !== undefined || cacheSalt !== undefined || blockSizeTokens === 0) return false;
  return tokens.length > 0 && tokens.length === handles.length * blockSizeTokens;
}

function isAlike(event: BlockStored, first: BlockStored): boolean {
  return (
    event.medium === first.medium &&
    event.blockSizeTokens === first.blockSizeTokens &&
    event.loraName === first.loraName &&
    event.loraId === first.loraId &&
    event.group === first.group &&
    event.specKind === first.specKind
  );
}
