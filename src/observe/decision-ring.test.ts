import fc from "fast-check";
import { expect, it } from "vitest";
import { DecisionRing } from "./decision-ring.ts";

it("has the newest records, each id's last one, and never more than it may", () => {
  const entries = fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 50 });
  fc.assert(
    fc.property(entries, fc.integer({ min: 0, max: 8 }), (ids, recordsMax) => {
      const ring = new DecisionRing<number>(recordsMax);
      for (const [entry, id] of ids.entries()) ring.add(String(id), entry);
      const newestFirst = [...new Set(ids.toReversed())];
      for (let id = 0; id <= 12; id++) {
        const isKept = newestFirst.slice(0, recordsMax).includes(id);
        expect(ring.find(String(id))).toBe(isKept ? ids.lastIndexOf(id) : null);
      }
      expect(ring.size).toBe(Math.min(recordsMax, newestFirst.length));
    }),
  );
});
