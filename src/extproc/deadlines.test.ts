import fc from "fast-check";
import { expect, it } from "vitest";
import { SteppedClock } from "../../test/harness/stepped-clock.ts";
import { Deadlines } from "./deadlines.ts";

it("calls back each deadline at its time, unless it was cancelled", () => {
  const step = fc.record({ waitMs: fc.nat(60), isCancelled: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.nat(100), (steps, cancelAfterMs) => {
      const clock = new SteppedClock();
      const deadlines = new Deadlines(clock, 100);
      const called: [number, number][] = [];
      const expected: [number, number][] = [];
      for (const [n, { waitMs, isCancelled }] of steps.entries()) {
        clock.advance(waitMs);
        const cancel = deadlines.add(() => called.push([n, clock.nowMs()]));
        if (!isCancelled) expected.push([n, clock.nowMs() + 100]);
        else clock.after(Math.min(99, cancelAfterMs), cancel);
      }
      clock.advance(1000);
      expect(called).toEqual(expected);
    }),
  );
});
