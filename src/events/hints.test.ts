import fc from "fast-check";
import { expect, it } from "vitest";
import { TIERS, type Tier } from "../tiers/tier.ts";
import { HINTS_MAX, Hints } from "./hints.ts";

it("end a life after their newest store, whatever came between", () => {
  const step = fc.record({
    do: fc.constantFrom("add" as const, "delete" as const, "look" as const),
    tier: fc.constantFrom(...TIERS),
    handle: fc.constantFrom(0n, 1n, 2n ** 64n - 1n),
    afterMs: fc.nat({ max: 40 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const hints = new Hints(100);
      const model = new Map<string, number>();
      let nowMs = 0;
      for (const { do: what, tier, handle, afterMs } of steps) {
        nowMs += afterMs;
        const name = `${tier} ${handle}`;
        if (what === "add") {
          hints.add(tier, handle, nowMs);
          model.set(name, nowMs + 100);
        } else if (what === "delete") {
          hints.delete(tier, handle);
          model.delete(name);
        } else {
          const over = [...model].flatMap(([each, endMs]) => (endMs <= nowMs ? [each] : []));
          for (const each of over) model.delete(each);
          const ended = hints.takeEnded(nowMs);
          const names = ended.flatMap((each) => [...each.handles].map((h) => `${each.tier} ${h}`));
          expect(names.sort()).toEqual(over.sort());
        }
        expect(hints.size).toBe(model.size);
        expect(hints.has(tier, handle)).toBe(model.has(name));
      }
    }),
  );
});

it("of unknown age end at the next look", () => {
  const hints = new Hints(100);
  hints.add("cpu", 1n, null);
  hints.add("cpu", 2n, 0);
  expect(hints.takeEnded(0)).toEqual([{ tier: "cpu", handles: BigUint64Array.of(1n) }]);
});

it("are bounded: the oldest end", () => {
  const hints = new Hints(100);
  const tier: Tier = "cpu";
  for (let handle = 0; handle < HINTS_MAX; handle += 1) hints.add(tier, BigInt(handle), 0);
  expect(hints.takeExcess()).toEqual([]);
  hints.add(tier, 0n, 1);
  hints.add(tier, BigInt(HINTS_MAX), 1);
  expect(hints.takeExcess()).toEqual([{ tier, handles: BigUint64Array.of(1n) }]);
  expect(hints.size).toBe(HINTS_MAX);
});
