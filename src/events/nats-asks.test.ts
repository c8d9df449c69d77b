import { describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { SteppedClock } from "../../test/harness/stepped-clock.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import { Residency } from "../indexer/residency.ts";
import { askForGaps, type HolderAsk } from "./nats-asks.ts";

const holder: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };

type Put = readonly [state: "EXACT" | "DEGRADED", reason: string | null, seq: number];

describe("askForGaps", () => {
  const residency = new Residency({ index: new MemoryIndex(), entriesMax: 10 });
  const put = ([state, reason, seq]: Put): void => {
    const place = { epoch: 3, seq, engineMs: seq, blockSizesTokens: [], model: "m" };
    residency.setCursor(holder, { state, reason, ...place, ignoredGroups: [] });
  };

  /** What is asked in each of some looks, before which the cursor is put so. */
  async function asked(...cursors: readonly Put[]): Promise<number[]> {
    const clock = new SteppedClock();
    const abort = new AbortController();
    const asks: HolderAsk[] = [];
    const asking = askForGaps({
      residency,
      ask: (ask) => asks.push(ask),
      clock,
      signal: abort.signal,
    });
    const counts: number[] = [];
    for (const cursor of cursors) {
      put(cursor);
      const before = asks.length;
      clock.advance(2000);
      await Promise.resolve();
      await Promise.resolve();
      counts.push(asks.length - before);
    }
    abort.abort();
    await asking;
    return counts;
  }

  it("asks again and again for what only the engine can tell", async () => {
    const gap = ["DEGRADED", "gap", 4] as const;
    expect(await asked(gap, gap, ["EXACT", null, 5], ["DEGRADED", "no-removals", 6])).toEqual([
      1, 1, 0, 0,
    ]);
  });

  it("asks for a holder that stays catching-up where it is: its last word was lost", async () => {
    const at = (seq: number) => ["DEGRADED", "catching-up", seq] as const;
    expect(await asked(at(4), at(5), at(5), at(5), ["EXACT", null, 6], at(6))).toEqual([
      0, 0, 1, 1, 0, 0,
    ]);
  });
});
