import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LedgerModel } from "../../test/harness/ledger-model.ts";
import { type EndpointId, endpointId } from "../core/ids.ts";
import { coldness, IDLE_LOAD, remainingSeconds } from "./endpoint-load.ts";
import { type Dispatch, type InflightKeys, Ledger, type LedgerOptions } from "./ledger.ts";

const podA = endpointId("10.0.0.1:8000");
const podB = endpointId("10.0.0.2:8000");
const pods = [podA, podB];

/** The blocks of requests in flight, in plain lists. */
class PlainBlocks implements InflightKeys {
  readonly #keys: { endpointId: string; key: bigint }[] = [];

  add(endpointId: string, keys: BigUint64Array): number {
    for (const key of keys) this.#keys.push({ endpointId, key });
    return this.#distinct(endpointId);
  }

  remove(endpointId: string, keys: BigUint64Array): number {
    for (const key of keys) {
      const at = this.#keys.findIndex((e) => e.endpointId === endpointId && e.key === key);
      if (at >= 0) this.#keys.splice(at, 1);
    }
    return this.#distinct(endpointId);
  }

  #distinct(endpointId: string): number {
    return new Set(this.#keys.filter((e) => e.endpointId === endpointId).map((e) => e.key)).size;
  }
}

function newLedger(options: Partial<LedgerOptions> = {}): Ledger {
  return new Ledger({ blocks: new PlainBlocks(), ...options });
}

function dispatch(fields: Partial<Dispatch> = {}): Dispatch {
  return {
    requestId: "r1",
    endpointId: podA,
    decodeEndpointId: null,
    inputTokens: 100,
    keys: BigUint64Array.of(1n, 2n),
    blockSizeTokens: 16,
    workSeconds: 0.5,
    prefixKeys: [],
    isFirstTokenShown: true,
    atMs: 0,
    ...fields,
  };
}

describe("Ledger", () => {
  it("counts a request as waiting until its first token and as decoding until its end", () => {
    const ledger = newLedger();
    ledger.dispatched(dispatch({ atMs: 10 }));
    const known = { requests: 1, blockTokens: 32, blockSizeTokens: 16, speed: 1 };
    expect(ledger.load(podA)).toMatchObject({
      ...{ ...known, waiting: 1, decoding: 0, pendingSeconds: 0.5, headSinceMs: 10 },
      contextTokens: 0,
    });
    ledger.firstToken("r1", 30);
    ledger.progressed("r1", 16);
    expect(ledger.load(podA)).toMatchObject({
      ...{ ...known, waiting: 0, decoding: 1, pendingSeconds: 0, headSinceMs: 30 },
      ...{ contextTokens: 116, generatedTokens: 16 },
    });
    ledger.finished("r1", 20);
    const { headSinceMs: _, ...idle } = IDLE_LOAD;
    expect(ledger.load(podA)).toMatchObject({
      ...idle,
      ...{ blockSizeTokens: 16, servedSeconds: 0.5, answers: 1 },
    });
  });

  it("counts a split request at its prefill endpoint to its first token, at the other to its end", () => {
    const ledger = newLedger();
    ledger.dispatched(dispatch({ decodeEndpointId: podB }));
    expect(ledger.load(podA)).toMatchObject({ requests: 1, waiting: 1, blockTokens: 32 });
    expect(ledger.load(podB)).toMatchObject({ requests: 0, pairedRequests: 1, pairedTokens: 100 });
    ledger.firstToken("r1", 5);
    expect(ledger.load(podA)).toMatchObject({ requests: 0, decoding: 0, blockTokens: 0 });
    ledger.progressed("r1", 16);
    expect(ledger.load(podA)).toMatchObject({ contextTokens: 0, generatedTokens: 0 });
    expect(ledger.load(podB)).toMatchObject({ requests: 0, pairedRequests: 1, pairedTokens: 116 });
    ledger.finished("r1", 16);
    expect(ledger.load(podB)).toMatchObject({ pairedRequests: 0, pairedTokens: 0 });
  });

  it("learns that an endpoint is twice as fast as the others", () => {
    const ledger = newLedger();
    const podC = endpointId("10.0.0.3:8000");
    const serviceMs = new Map([
      [podA, 250],
      [podB, 500],
      [podC, 500],
    ]);
    for (let turn = 0; turn < 400; turn += 1) {
      const atMs = 1000 * turn;
      for (const [endpointId, ms] of serviceMs) {
        ledger.dispatched(dispatch({ requestId: endpointId, endpointId, atMs }));
        ledger.firstToken(endpointId, atMs + ms);
        ledger.ended(endpointId);
      }
    }
    ledger.settleSpeeds([podA, podB, podC]);
    expect(ledger.load(podB).speed).toBe(1);
    expect(ledger.load(podC).speed).toBe(1);
    expect(ledger.load(podA).speed).toBeGreaterThan(1.9);
  });

  it("learns no speed from the first answers of an endpoint that is new or was away", () => {
    const ledger = newLedger();
    let atMs = 0;
    const answer = (endpointId: EndpointId, serviceMs: number): void => {
      ledger.dispatched(dispatch({ endpointId, atMs }));
      atMs += serviceMs;
      ledger.firstToken("r1", atMs);
      ledger.ended("r1");
      ledger.settleSpeeds(pods);
    };
    for (let turn = 0; turn < 50; turn += 1) answer(podA, 500);
    expect(coldness(ledger.load(podA))).toBe(0);
    const compiling = [20_000, 3000, 1000];
    for (const serviceMs of compiling) {
      expect(coldness(ledger.load(podB))).toBeGreaterThan(0);
      answer(podB, serviceMs);
    }
    expect(coldness(ledger.load(podB))).toBe(0);
    expect(ledger.load(podB).speed).toBe(1);
    ledger.began(podA);
    expect(coldness(ledger.load(podA))).toBe(1);
    for (const serviceMs of compiling) answer(podA, serviceMs);
    expect(ledger.load(podA)).toMatchObject({ speed: 1, answers: 3 });
  });

  it("takes no endpoint for slow because it works for other routers too", () => {
    let peersServed = 0;
    const ledger = newLedger({ peersServedSeconds: () => peersServed });
    for (let turn = 0; turn < 400; turn += 1) {
      const atMs = 2000 * turn;
      ledger.dispatched(dispatch({ atMs, workSeconds: 0.5 }));
      // The other router's 1.5 s were served before it, by an endpoint of speed 1.
      peersServed += 1.5;
      ledger.firstToken("r1", atMs + 2000);
      // What it brings while nothing of ours waits says nothing.
      peersServed += 7;
      ledger.ended("r1");
    }
    ledger.settleSpeeds([podA]);
    expect(ledger.load(podA).speed).toBeCloseTo(1, 6);
    expect(ledger.load(podA).servedSeconds).toBeCloseTo(200, 6);
  });

  it("follows the means of work and of whole answers", () => {
    const ledger = newLedger();
    for (let turn = 0; turn < 500; turn += 1) {
      ledger.dispatched(dispatch({ workSeconds: 3 }));
      ledger.finished("r1", 40);
      ledger.ended("r1");
    }
    expect(ledger.workMeanSeconds).toBeCloseTo(3, 2);
    expect(ledger.outputMeanTokens).toBeCloseTo(40, 1);
  });

  it("counts a request that was served elsewhere there", () => {
    const ledger = newLedger();
    ledger.dispatched(dispatch());
    expect(ledger.moved("r1", podB)).toBe(true);
    expect(ledger.endpointOf("r1")).toBe(podB);
    expect(ledger.load(podA)).toMatchObject({ requests: 0, pendingSeconds: 0, blockTokens: 0 });
    expect(ledger.load(podB)).toMatchObject({ requests: 1, waiting: 1, blockTokens: 32 });
    expect(ledger.moved("r9", podA)).toBe(false);
  });

  it("keeps requests without their blocks when there are too many of those", () => {
    const ledger = newLedger({ requestBlocksMax: 3 });
    ledger.dispatched(dispatch({ requestId: "r1" }));
    ledger.dispatched(dispatch({ requestId: "r2", endpointId: podB }));
    expect(ledger.load(podB)).toMatchObject({ requests: 1, blockTokens: 0 });
    ledger.ended("r1");
    ledger.ended("r2");
    ledger.dispatched(dispatch({ requestId: "r3", endpointId: podB }));
    expect(ledger.load(podB).blockTokens).toBe(32);
  });

  it("starts the head's service when the endpoint becomes busy and at each first token", () => {
    const ledger = newLedger();
    ledger.dispatched(dispatch({ requestId: "r1", atMs: 10 }));
    ledger.dispatched(dispatch({ requestId: "r2", atMs: 20 }));
    expect(ledger.load(podA).headSinceMs).toBe(10);
    ledger.firstToken("r1", 30);
    expect(ledger.load(podA).headSinceMs).toBe(30);
    ledger.ended("r1");
    expect(ledger.load(podA).headSinceMs).toBe(30);
    ledger.ended("r2");
    ledger.dispatched(dispatch({ requestId: "r3", atMs: 50 }));
    expect(ledger.load(podA).headSinceMs).toBe(50);
  });

  it("refuses a dispatch when it is full, and takes one again after an end", () => {
    const drops: string[] = [];
    const ledger = newLedger({ requestsMax: 2, onDrop: (reason) => drops.push(reason) });
    expect(ledger.dispatched(dispatch({ requestId: "r1" }))).toBe(true);
    expect(ledger.dispatched(dispatch({ requestId: "r2" }))).toBe(true);
    expect(ledger.dispatched(dispatch({ requestId: "r3" }))).toBe(false);
    expect(drops).toEqual(["full"]);
    expect(ledger.ended("r1")).toBe(true);
    expect(ledger.dispatched(dispatch({ requestId: "r3" }))).toBe(true);
  });

  it("ignores first tokens and ends of requests that it does not hold", () => {
    const ledger = newLedger();
    expect(ledger.firstToken("r9", 1)).toBe(false);
    expect(ledger.ended("r9")).toBe(false);
    ledger.dispatched(dispatch());
    ledger.firstToken("r1", 1);
    expect(ledger.firstToken("r1", 2)).toBe(false);
  });

  it("expires requests that never ended, oldest first", () => {
    const drops: string[] = [];
    const ledger = newLedger({ requestAgeMsMax: 100, onDrop: (reason) => drops.push(reason) });
    ledger.dispatched(dispatch({ requestId: "r1", atMs: 0 }));
    ledger.dispatched(dispatch({ requestId: "r2", atMs: 60 }));
    expect(ledger.expire(100)).toBe(0);
    expect(ledger.expire(101)).toBe(1);
    expect(ledger.requests).toBe(1);
    expect(drops).toEqual(["expired"]);
  });

  it("lets a request decode whose first token is not shown, when its work is done by estimate", () => {
    const ledger = newLedger();
    const unseen = { isFirstTokenShown: false, workSeconds: 0.5 };
    ledger.dispatched(dispatch({ ...unseen, requestId: "r1", atMs: 0 }));
    ledger.dispatched(dispatch({ ...unseen, requestId: "r2", atMs: 100 }));
    ledger.settlePrefills(499);
    expect(ledger.load(podA)).toMatchObject({ waiting: 2, decoding: 0 });
    ledger.settlePrefills(999);
    expect(ledger.load(podA)).toMatchObject({ waiting: 1, decoding: 1, headSinceMs: 500 });
    expect(remainingSeconds(ledger.load(podA), 900)).toBeCloseTo(0.1);
    // The whole answer: it tells that the endpoint answers, and nothing of its speed.
    expect(ledger.firstToken("r1", 9000)).toBe(true);
    expect(ledger.firstToken("r1", 9000)).toBe(false);
    expect(ledger.firstToken("r2", 900)).toBe(true);
    expect(ledger.load(podA)).toMatchObject({ waiting: 0, decoding: 2, answers: 2, speed: 1 });
  });

  it("learns no speed from answers that come whole, and the same one beside them", () => {
    const ledger = newLedger();
    let atMs = 0;
    for (let turn = 0; turn < 300; turn += 1) {
      for (const [number, endpointId] of [podA, podB].entries()) {
        const at = { endpointId, workSeconds: 0.25, atMs };
        const isFirstTokenShown = number === 0;
        ledger.dispatched(dispatch({ ...at, requestId: `u${turn}-${number}`, isFirstTokenShown }));
        ledger.dispatched(dispatch({ ...at, requestId: `s${turn}-${number}`, atMs: atMs + 1 }));
        // Both are prefilled in half a second; the whole answer takes four more.
        ledger.settlePrefills(atMs + 500);
        if (isFirstTokenShown) ledger.firstToken(`u${turn}-${number}`, atMs + 250);
        ledger.firstToken(`s${turn}-${number}`, atMs + 501);
        ledger.firstToken(`u${turn}-${number}`, atMs + 4500);
        ledger.ended(`u${turn}-${number}`);
        ledger.ended(`s${turn}-${number}`);
      }
      atMs += 5000;
    }
    ledger.settleSpeeds(pods);
    for (const pod of pods) expect(ledger.load(pod).speed).toBeCloseTo(1, 1);
  });

  it("agrees with a brute-force model", () => {
    fc.assert(
      fc.property(fc.array(stepArb, { maxLength: 60 }), (steps) => {
        const model = new LedgerModel();
        const ledger = newLedger({ requestsMax: LedgerModel.requestsMax, requestAgeMsMax: 50 });
        let atMs = 0;
        for (const step of steps) {
          atMs += step.afterMs;
          const requestId = `r${step.request}`;
          if (step.kind === "dispatched") {
            const request = dispatch({ ...step.fields, requestId, atMs });
            expect(ledger.dispatched(request)).toBe(model.dispatched(request));
          } else if (step.kind === "firstToken") {
            expect(ledger.firstToken(requestId, atMs)).toBe(model.firstToken(requestId, atMs));
          } else if (step.kind === "settle") {
            ledger.settlePrefills(atMs);
            model.settlePrefills(atMs);
          } else if (step.kind === "progressed") {
            expect(ledger.progressed(requestId, 16)).toBe(model.progressed(requestId));
          } else if (step.kind === "ended") {
            expect(ledger.ended(requestId)).toBe(model.ended(requestId));
          } else {
            expect(ledger.expire(atMs)).toBe(model.expire(atMs));
          }
          for (const pod of pods) {
            expect(ledger.load(pod)).toMatchObject(model.load(pod));
            for (const key of [1n, 2n]) {
              expect(ledger.prefixWork(key).get(pod)).toEqual(model.prefixWork(key, pod));
            }
          }
        }
      }),
    );
  });
});

const stepArb = fc.record({
  kind: fc.constantFrom(
    ...(["dispatched", "dispatched", "firstToken", "progressed", "ended", "expire"] as const),
    "settle" as const,
  ),
  request: fc.nat(7),
  afterMs: fc.oneof(fc.nat(9), fc.nat(9), fc.constant(2000)),
  fields: fc.record({
    endpointId: fc.constantFrom(...pods),
    inputTokens: fc.nat(1000),
    keys: fc.array(fc.bigInt(1n, 9n), { maxLength: 4 }).map((keys) => BigUint64Array.from(keys)),
    decodeEndpointId: fc.constantFrom(null, null, podB),
    // Eighths add up exactly, so that sums may be compared for equality.
    workSeconds: fc.nat(64).map((eighths) => eighths / 8),
    prefixKeys: fc.subarray([1n, 2n]),
    isFirstTokenShown: fc.boolean(),
  }),
});
