import { expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { blockKey, endpointId } from "../core/ids.ts";
import { EvictionBoard } from "./eviction-board.ts";
import { EvictionWatch } from "./eviction-watch.ts";

it("passes all on to the index, and reports what is removed", () => {
  const index = new MemoryIndex();
  const board = new EvictionBoard();
  const watch = new EvictionWatch(index, board);
  const holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
  const other = { endpointId: endpointId("10.0.0.2:8000"), rank: 0 };
  const key = blockKey(0xffff_0000_0000_0001n);
  watch.store(holder, "gpu", key);
  watch.store(other, "gpu", key);
  const [mine, theirs] = [holder, other].map(({ endpointId }) => board.watch(endpointId, key));
  watch.remove(holder, "gpu", key);
  expect([mine?.isEvicted, theirs?.isEvicted]).toEqual([true, false]);
  watch.store(holder, "gpu", key);
  expect(mine?.isEvicted).toBe(true);
  expect(index.residency(key)).toHaveLength(2);
});
