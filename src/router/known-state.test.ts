import { expect, it } from "vitest";
import type { HolderCursor } from "../indexer/residency.ts";
import { knownState, NO_EVENT_SOURCE, NOT_HEARD, worstState } from "./known-state.ts";

const cursor = (state: "EXACT" | "DEGRADED", reason: string | null): HolderCursor => ({
  ...{ state, reason, epoch: 1, seq: 1, engineMs: 1, blockSizesTokens: [16] },
  ...{ model: "m", ignoredGroups: [] },
});

it("is what the events say, FALLBACK without them, and that of the worst rank", () => {
  const exact = knownState(cursor("EXACT", null), { isSilent: false });
  const gap = knownState(cursor("DEGRADED", "gap"), { isSilent: false });
  expect(worstState([exact, exact])).toEqual({ state: "EXACT", reason: null });
  expect(worstState([exact, gap])).toEqual({ state: "DEGRADED", reason: "gap" });
  expect(worstState([gap, knownState(null, { isSilent: false })])).toEqual(NOT_HEARD);
  expect(worstState([knownState(cursor("EXACT", null), { isSilent: true })])).toEqual({
    state: "FALLBACK",
    reason: "events-silent",
  });
  expect(worstState([])).toEqual(NO_EVENT_SOURCE);
});
