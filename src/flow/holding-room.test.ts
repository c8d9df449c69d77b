import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { flowConfigSchema } from "./config.ts";
import { HoldingRoom, type HoldQuestion } from "./holding-room.ts";

const config = flowConfigSchema.parse({});

function question(fields: Partial<HoldQuestion> = {}): HoldQuestion {
  return {
    ...{ requestId: "r1", bytes: 100, queueMeanSeconds: 4, queueLeastSeconds: 4 },
    ...{ workSeconds: 0.5, nowMs: 1000 },
    ...fields,
  };
}

describe("HoldingRoom", () => {
  it("holds only while the endpoints are far behind", () => {
    const room = new HoldingRoom(config);
    expect(room.ask(question({ queueMeanSeconds: 3 }))).toBe("free");
    expect(room.ask(question())).toBe("held");
    expect(room.requests).toBe(1);
    expect(room.ask(question({ queueMeanSeconds: 2 }))).toBe("free");
    expect(room.requests).toBe(0);
    expect(room.bytes).toBe(0);
  });

  it("holds nothing while one endpoint is hardly behind, whatever the mean is", () => {
    const room = new HoldingRoom(config);
    const mean = { queueMeanSeconds: 1e6 };
    expect(room.ask(question({ ...mean, queueLeastSeconds: 0 }))).toBe("free");
    expect(room.ask(question({ ...mean, queueLeastSeconds: 0.75 }))).toBe("free");
    expect(room.ask(question({ ...mean, queueLeastSeconds: 0.76 }))).toBe("held");
  });

  it("lets a request go after ten times its own work, and after 20 s in any case", () => {
    const room = new HoldingRoom(config);
    expect(room.ask(question())).toBe("held");
    expect(room.ask(question({ nowMs: 5999 }))).toBe("held");
    expect(room.heldMs("r1", 5999)).toBe(4999);
    expect(room.ask(question({ nowMs: 6000 }))).toBe("waited");
    expect(room.ask(question({ requestId: "r2", workSeconds: 60 }))).toBe("held");
    expect(room.ask(question({ requestId: "r2", workSeconds: 60, nowMs: 21_000 }))).toBe("waited");
    expect(room.requests).toBe(0);
  });

  it("decides at once what it has no place for, by number and by bytes", () => {
    const room = new HoldingRoom({ ...config, requestsMax: 2, bytesMax: 250 });
    expect(room.ask(question({ requestId: "r1" }))).toBe("held");
    expect(room.ask(question({ requestId: "r2", bytes: 200 }))).toBe("full");
    expect(room.ask(question({ requestId: "r3" }))).toBe("held");
    expect(room.ask(question({ requestId: "r4", bytes: 0 }))).toBe("full");
    room.leave("r1");
    expect(room.ask(question({ requestId: "r4" }))).toBe("held");
  });

  it("sheds the named objectives, and those only while the endpoints are far behind", () => {
    const room = new HoldingRoom({ ...config, shedObjectives: ["batch"] });
    expect(room.isShed("batch", question())).toBe(true);
    expect(room.isShed("batch", question({ queueMeanSeconds: 3 }))).toBe(false);
    expect(room.isShed("batch", question({ queueLeastSeconds: 0.75 }))).toBe(false);
    expect(room.isShed("chat", question())).toBe(false);
    expect(room.isShed(null, question())).toBe(false);
    const off = new HoldingRoom({ ...config, isOn: false, shedObjectives: ["batch"] });
    expect(off.isShed("batch", question())).toBe(false);
  });

  it("holds nothing when it is switched off", () => {
    const room = new HoldingRoom({ ...config, isOn: false });
    expect(room.ask(question({ queueMeanSeconds: 1000 }))).toBe("free");
  });

  it("keeps its bounds, and is empty once every request was let go, whatever is asked", () => {
    const bounds = { ...config, requestsMax: 3, bytesMax: 500 };
    const step = fc.record({
      requestId: fc.constantFrom("a", "b", "c", "d", "e"),
      bytes: fc.nat(300),
      queueMeanSeconds: fc.double({ min: 0, max: 10, noNaN: true }),
      queueLeastSeconds: fc.double({ min: 0, max: 10, noNaN: true }),
      workSeconds: fc.double({ min: 0, max: 5, noNaN: true }),
      afterMs: fc.nat(3000),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const room = new HoldingRoom(bounds);
        let nowMs = 0;
        for (const { afterMs, ...rest } of steps) {
          nowMs += afterMs;
          room.ask({ ...rest, nowMs });
          expect(room.requests).toBeLessThanOrEqual(3);
          expect(room.bytes).toBeLessThanOrEqual(500);
        }
        for (const requestId of ["a", "b", "c", "d", "e"]) {
          const answer = room.ask(question({ requestId, nowMs: nowMs + 20_000, workSeconds: 60 }));
          if (answer === "held") room.leave(requestId);
        }
        expect(room.requests).toBe(0);
        expect(room.bytes).toBe(0);
      }),
    );
  });
});
