import { expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { blockKey, endpointId } from "../core/ids.ts";
import { EvictionWatch } from "./eviction-watch.ts";

it("passes all on to the index, and remembers which watched blocks left their endpoint", () => {
  const index = new MemoryIndex();
  const watch = new EvictionWatch(index);
  const holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
  const other = { endpointId: endpointId("10.0.0.2:8000"), rank: 0 };
  watch.store(holder, "gpu", blockKey(1n));
  watch.store(other, "gpu", blockKey(1n));
  const mine = watch.watch(holder.endpointId, 1n);
  const again = watch.watch(holder.endpointId, 1n);
  const theirs = watch.watch(other.endpointId, 1n);
  watch.unwatch(again);
  watch.remove(holder, "gpu", blockKey(1n));
  watch.store(holder, "gpu", blockKey(1n));
  expect([mine.isEvicted, again.isEvicted, theirs.isEvicted]).toEqual([true, false, false]);
  expect(index.residency(blockKey(1n))).toHaveLength(2);
  watch.unwatch(mine);
  watch.unwatch(mine);
  watch.unwatch(theirs);
  expect(watch.size).toBe(0);
});
