import { expect, it } from "vitest";
import type { KvEvent } from "./kv-event.ts";
import { endOfRemovals, joinedRemovals } from "./removal-runs.ts";

const removed = (handles: bigint[], medium = "GPU", group: number | null = null): KvEvent => ({
  type: "removed",
  handles: BigUint64Array.from(handles),
  medium,
  group,
});

it("takes neighbouring removals of one tier and group as one, in their order", () => {
  const events = [
    removed([1n]),
    removed([2n, 3n]),
    removed([1n]),
    removed([4n], "CPU"),
    removed([5n], "CPU", 1),
    { type: "cleared" } as const,
    removed([6n]),
  ];
  expect([0, 1, 3, 4, 6].map((start) => endOfRemovals(events, start))).toEqual([3, 3, 4, 5, 7]);
  expect(joinedRemovals(events, 0, 3)).toEqual(removed([1n, 2n, 3n, 1n]));
  expect(joinedRemovals(events, 3, 4)).toEqual(events[3]);
});
