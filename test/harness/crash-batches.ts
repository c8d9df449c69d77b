/** What the process that is killed does, and what must be in its store: a function of sequence numbers. */
import { endpointId, type Holder } from "../../src/core/ids.ts";
import type { Residency } from "../../src/indexer/residency.ts";

export const HOLDERS: readonly Holder[] = [1, 2, 3].map((each) => ({
  endpointId: endpointId(`10.0.0.${each}:8000`),
  rank: each,
}));

/** Blocks of a batch, and how many batches of a holder live. */
const BLOCKS = 37;
const BATCHES_HELD = 20;

/** Batches go round the holders; the batch's number is the position in the log. */
const holderAt = (batch: number): number => batch % HOLDERS.length;
const seqAt = (batch: number): number => Math.floor(batch / HOLDERS.length);

function handlesOf(seq: number): BigUint64Array {
  return BigUint64Array.from({ length: BLOCKS }, (_, block) => BigInt(seq * BLOCKS + block));
}

function keyOf(handle: bigint): bigint {
  return BigInt.asUintN(64, (handle + 1n) * 0x9e37_79b9_7f4a_7c15n);
}

/** Stores the batch's blocks, and removes those of the oldest one. */
export function applyBatch(residency: Residency, batch: number): void {
  const holder = HOLDERS[holderAt(batch)];
  if (holder === undefined) return;
  const seq = seqAt(batch);
  // A holder that was written later than the log's cursor has seen it already.
  if (seq <= (residency.cursorOf(holder)?.seq ?? -1)) return;
  const handles = handlesOf(seq);
  residency.stored(holder, "gpu", handles, handles.map(keyOf));
  if (seq >= BATCHES_HELD) residency.removed(holder, "gpu", handlesOf(seq - BATCHES_HELD));
  residency.setCursor(holder, {
    ...{ state: "EXACT", reason: null, epoch: 1, seq, engineMs: 0, blockSizesTokens: [16] },
    model: "m",
    ignoredGroups: [],
  });
  residency.setLogCursor({ stream: "s", seq: batch });
}

/** Where a reader of the log goes on. */
export function nextBatch(residency: Residency): number {
  return (residency.logCursor?.seq ?? -1) + 1;
}

/** What is wrong with a restored residency; null: cursors and blocks fit. */
export function problemOf(residency: Residency): string | null {
  const logSeq = residency.logCursor?.seq ?? -1;
  for (const [place, holder] of HOLDERS.entries()) {
    const cursor = residency.cursorOf(holder);
    const seq = cursor?.seq ?? -1;
    // The last batch of this holder up to the log's cursor.
    const seqMin = Math.floor((logSeq - place) / HOLDERS.length);
    if (seq < seqMin) return `log cursor ${logSeq} is ahead of holder ${place} at ${seq}`;
    if (cursor !== null && cursor.state !== "EXACT") return `holder ${place}: ${cursor.reason}`;
    const held = new Map(
      [...residency.records(holder)].map(([handle, { key, copies }]) => [
        handle,
        `${key} ${copies}`,
      ]),
    );
    let expected = 0;
    for (let each = Math.max(0, seq - BATCHES_HELD + 1); each <= seq; each += 1) {
      for (const handle of handlesOf(each)) {
        expected += 1;
        if (held.get(handle) !== `${keyOf(handle)} 1,0,0,0`) {
          return `holder ${place} at ${seq} has ${held.get(handle)} for ${handle}`;
        }
      }
    }
    if (held.size !== expected) return `holder ${place} at ${seq}: ${held.size} of ${expected}`;
  }
  return null;
}
