import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { endpointId } from "../core/ids.ts";
import { EvictionBoard, WATCHED_BLOCKS_MAX, type WatchedBlock } from "./eviction-board.ts";

const podA = endpointId("10.0.0.1:8000");
const podB = endpointId("10.0.0.2:8000");

/** A board for each thread, on one memory. */
function boards(): { readonly reader: EvictionBoard; readonly writer: EvictionBoard } {
  const reader = new EvictionBoard();
  return { reader, writer: new EvictionBoard(reader.memory) };
}

const remove = (board: EvictionBoard, endpoint: typeof podA, key: bigint): void =>
  board.removed(endpoint, Number(key & 0xffff_ffffn), Number(key >> 32n));

describe("EvictionBoard", () => {
  it("keeps the answer of a watch that has ended", () => {
    const { reader, writer } = boards();
    const [mine, again, theirs] = [podA, podA, podB].map((pod) => reader.watch(pod, 1n));
    if (mine === undefined || again === undefined || theirs === undefined) throw new Error();
    reader.unwatch(again);
    remove(writer, podA, 1n);
    const late = reader.watch(podA, 1n);
    const answers = (): boolean[] => [mine, again, theirs, late].map((each) => each.isEvicted);
    expect(answers()).toEqual([true, false, false, false]);
    for (const block of [mine, mine, theirs, late]) reader.unwatch(block);
    remove(writer, podA, 1n);
    expect(answers()).toEqual([true, false, false, false]);
    expect(reader.size).toBe(0);
  });

  it("tells what a model with sets tells, also where places are short", () => {
    const pods = [podA, podB];
    // Keys that differ in their low half alone share their places.
    const key = fc.bigInt({ min: 1n, max: 9n });
    const step = fc.record({
      kind: fc.constantFrom("watch", "unwatch", "remove"),
      pod: fc.constantFrom(...pods),
      key,
      pick: fc.nat(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { reader, writer } = boards();
        const open: { block: WatchedBlock; isEvicted: boolean; hasPlace: boolean }[] = [];
        const held = (pod: typeof podA): Set<bigint> =>
          new Set(
            open
              .filter(({ block, hasPlace }) => hasPlace && block.endpointId === pod)
              .map(({ block }) => block.key),
          );
        for (const { kind, pod, key: each, pick } of steps) {
          if (kind === "watch") {
            const holding = held(pod);
            const hasPlace = holding.has(each) || holding.size < 4;
            open.push({ block: reader.watch(pod, each), isEvicted: false, hasPlace });
          } else if (kind === "remove") {
            remove(writer, pod, each);
            for (const watch of open) {
              const isIt = watch.block.endpointId === pod && watch.block.key === each;
              if (isIt && watch.hasPlace) watch.isEvicted = true;
            }
          } else if (open.length > 0) {
            const [closed] = open.splice(pick % open.length, 1);
            if (closed !== undefined) reader.unwatch(closed.block);
          }
          expect(open.map(({ block }) => block.isEvicted)).toEqual(
            open.map(({ isEvicted }) => isEvicted),
          );
        }
        for (const { block } of open) reader.unwatch(block);
        expect(reader.size).toBe(0);
      }),
    );
  });

  it("holds no more than its bound", () => {
    const { reader } = boards();
    for (let n = 0n; n < 4n * BigInt(WATCHED_BLOCKS_MAX); n += 1n) {
      reader.watch(podA, (n * 0x9e37_79b9_7f4a_7c15n) & 0xffff_ffff_ffff_ffffn);
    }
    expect(reader.size).toBeLessThanOrEqual(WATCHED_BLOCKS_MAX);
    expect(reader.size).toBeGreaterThan(WATCHED_BLOCKS_MAX / 2);
  });
});
