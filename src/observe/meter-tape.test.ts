import fc from "fast-check";
import { expect, it } from "vitest";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import { playTape, TapeMeter } from "./meter-tape.ts";
import { PromMeter } from "./prom-meter.ts";

it("gives a registry what it would have been given directly, whenever it is taken", async () => {
  const labels = fc.record({ endpoint: fc.constantFrom("h:1", "h:2") });
  const value = fc.integer({ min: 0, max: 9 });
  const step = fc.oneof(
    fc.record({ kind: fc.constant("count" as const), labels, value }),
    fc.record({ kind: fc.constant("gauge" as const), labels, value }),
    fc.record({ kind: fc.constant("observe" as const), labels, value }),
    fc.record({ kind: fc.constant("reset" as const), labels, value }),
    fc.record({ kind: fc.constant("take" as const), labels, value }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const [direct, played] = [new PromMeter(), new PromMeter()];
      const tape = new TapeMeter();
      const take = (): void => {
        const taken = tape.take();
        if (taken !== null) playTape(structuredClone(taken), played);
      };
      for (const { kind, labels: of, value: by } of steps) {
        for (const meter of kind === "take" ? [] : [direct, tape]) {
          if (kind === "count") meter.count("kvatlas_events_messages_total", of, by);
          if (kind === "gauge") meter.gauge("kvatlas_index_lag_seconds", of, by);
          if (kind === "observe") meter.observe("kvatlas_match_seconds", {}, by);
          if (kind === "reset") meter.resetGauge("kvatlas_index_lag_seconds");
        }
        if (kind === "take") take();
      }
      take();
      const [expected, actual] = await Promise.all([linesOf(direct), linesOf(played)]);
      expect(actual).toEqual(expected);
    }),
    { numRuns: 40 },
  );
});

it("is empty until something is counted", () => {
  const tape = new TapeMeter();
  expect(tape.take()).toBeNull();
  tape.count("kvatlas_ingest_crashes_total", {}, 3);
  const meter = recordingMeter();
  playTape(tape.take() ?? expect.fail(), meter);
  expect(meter.total("kvatlas_ingest_crashes_total")).toBe(3);
  expect(tape.take()).toBeNull();
});

async function linesOf(meter: PromMeter): Promise<string[]> {
  const { body } = await meter.text();
  return body
    .split("\n")
    .filter((line) => line.startsWith("kvatlas_"))
    .sort();
}
