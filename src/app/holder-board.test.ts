import fc from "fast-check";
import { expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import type { StreamFacts } from "../events/stream-facts.ts";
import { Residency } from "../indexer/residency.ts";
import { HolderBoard } from "./holder-board.ts";
import { HolderScan } from "./holder-news.ts";

const holders: readonly Holder[] = [1, 2].flatMap((pod) =>
  [0, 1].map((rank) => ({ endpointId: endpointId(`10.0.0.${pod}:8000`), rank })),
);
const facts: StreamFacts = {
  ...{ address: "tcp://h:1", sinceMs: 1, handshakes: 0, heardMs: null, topic: null },
  undecodable: null,
  otherRank: null,
};

it("says of every holder what the write path knows, whenever it is told", () => {
  const step = fc.record({
    kind: fc.constantFrom("cursor", "stored", "heard", "connected", "followed", "forget", "tell"),
    at: fc.nat({ max: holders.length - 1 }),
    seq: fc.integer({ min: -1, max: 3 }),
    state: fc.constantFrom("EXACT" as const, "DEGRADED" as const),
    blockSizesTokens: fc.subarray([16, 32, 256]),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1000 });
      const seen = new Map<Holder, StreamFacts>();
      const events = {
        factsOf: (holder: Holder): StreamFacts | null => seen.get(holder) ?? null,
        heardMsOf: (holder: Holder): number | null => seen.get(holder)?.heardMs ?? null,
      };
      const scan = new HolderScan({ holders: residency, events });
      const board = new HolderBoard();
      let handle = 0n;
      const tell = (): void => {
        board.take(structuredClone(scan.look([...seen.keys()])));
        for (const holder of holders) {
          // Another thread has objects of its own.
          const asked = { ...holder };
          expect(board.cursorOf(asked)).toEqual(residency.cursorOf(holder));
          expect(board.blocksOf(asked)).toBe(residency.blocksOf(holder));
          expect(board.factsOf(asked)).toEqual(events.factsOf(holder));
          expect(board.heardMsOf(asked)).toBe(events.heardMsOf(holder));
        }
        expect([...board.blockSizes()].sort()).toEqual([...residency.blockSizes()].sort());
      };
      for (const { kind, at, seq, state, blockSizesTokens } of steps) {
        const holder = holders[at] ?? expect.fail();
        const now = seen.get(holder);
        if (kind === "cursor") {
          const reason = state === "EXACT" ? null : "gap";
          const place = { epoch: 1, seq, engineMs: seq, model: "m", ignoredGroups: [] };
          residency.setCursor(holder, { state, reason, blockSizesTokens, ...place });
        } else if (kind === "stored") {
          handle += 1n;
          residency.stored(holder, "gpu", BigUint64Array.of(handle), BigUint64Array.of(handle));
        } else if (kind === "followed") seen.set(holder, now ?? facts);
        else if (kind === "heard" && now !== undefined) seen.set(holder, { ...now, heardMs: seq });
        else if (kind === "connected" && now !== undefined) {
          seen.set(holder, { ...now, handshakes: now.handshakes + 1 });
        } else if (kind === "forget") {
          residency.forget(holder);
          seen.delete(holder);
        } else if (kind === "tell") tell();
      }
      tell();
      expect(scan.look([...seen.keys()])).toEqual({
        ...{ changed: [], gone: [], counts: new Float64Array(0) },
      });
      board.clear();
      for (const holder of holders) expect(board.cursorOf(holder)).toBeNull();
    }),
  );
});
