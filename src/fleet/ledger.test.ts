import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { endpointId } from "../core/ids.ts";
import { type Dispatch, type EndpointLoad, IDLE_LOAD, Ledger } from "./ledger.ts";

const podA = endpointId("10.0.0.1:8000");
const podB = endpointId("10.0.0.2:8000");
const pods = [podA, podB];

function dispatch(fields: Partial<Dispatch> = {}): Dispatch {
  return {
    requestId: "r1",
    endpointId: podA,
    inputTokens: 100,
    uncachedTokens: 40,
    workSeconds: 0.5,
    prefixKey: null,
    atMs: 0,
    ...fields,
  };
}

describe("Ledger", () => {
  it("counts a request as waiting until its first token and as decoding until its end", () => {
    const ledger = new Ledger();
    ledger.dispatched(dispatch({ atMs: 10 }));
    expect(ledger.load(podA)).toEqual({
      requests: 1,
      waiting: 1,
      decoding: 0,
      pendingWorkSeconds: 0.5,
      headSinceMs: 10,
      contextTokens: 0,
      inflightTokens: 100,
      uncachedTokens: 40,
    });
    ledger.firstToken("r1", 30);
    expect(ledger.load(podA)).toEqual({
      requests: 1,
      waiting: 0,
      decoding: 1,
      pendingWorkSeconds: 0,
      headSinceMs: null,
      contextTokens: 100,
      inflightTokens: 100,
      uncachedTokens: 40,
    });
    ledger.ended("r1");
    expect(ledger.load(podA)).toEqual(IDLE_LOAD);
  });

  it("starts the head's service when the endpoint becomes busy and at each first token", () => {
    const ledger = new Ledger();
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
    const ledger = new Ledger({ requestsMax: 2, onDrop: (reason) => drops.push(reason) });
    expect(ledger.dispatched(dispatch({ requestId: "r1" }))).toBe(true);
    expect(ledger.dispatched(dispatch({ requestId: "r2" }))).toBe(true);
    expect(ledger.dispatched(dispatch({ requestId: "r3" }))).toBe(false);
    expect(drops).toEqual(["full"]);
    expect(ledger.ended("r1")).toBe(true);
    expect(ledger.dispatched(dispatch({ requestId: "r3" }))).toBe(true);
  });

  it("ignores first tokens and ends of requests that it does not hold", () => {
    const ledger = new Ledger();
    expect(ledger.firstToken("r9", 1)).toBe(false);
    expect(ledger.ended("r9")).toBe(false);
    ledger.dispatched(dispatch());
    ledger.firstToken("r1", 1);
    expect(ledger.firstToken("r1", 2)).toBe(false);
  });

  it("expires requests that never ended, oldest first", () => {
    const drops: string[] = [];
    const ledger = new Ledger({ requestAgeMsMax: 100, onDrop: (reason) => drops.push(reason) });
    ledger.dispatched(dispatch({ requestId: "r1", atMs: 0 }));
    ledger.dispatched(dispatch({ requestId: "r2", atMs: 60 }));
    expect(ledger.expire(100)).toBe(0);
    expect(ledger.expire(101)).toBe(1);
    expect(ledger.requests).toBe(1);
    expect(drops).toEqual(["expired"]);
  });

  it("keeps handed-out loads as they were", () => {
    const ledger = new Ledger();
    ledger.dispatched(dispatch());
    const before = ledger.load(podA);
    ledger.ended("r1");
    expect(before.requests).toBe(1);
  });

  it("agrees with a brute-force model", () => {
    fc.assert(
      fc.property(fc.array(stepArb, { maxLength: 60 }), (steps) => {
        const model = new Model();
        const ledger = new Ledger({ requestsMax: Model.requestsMax, requestAgeMsMax: 50 });
        let atMs = 0;
        for (const step of steps) {
          atMs += step.afterMs;
          const requestId = `r${step.request}`;
          if (step.kind === "dispatched") {
            const request = dispatch({ ...step.fields, requestId, atMs });
            expect(ledger.dispatched(request)).toBe(model.dispatched(request));
          } else if (step.kind === "firstToken") {
            expect(ledger.firstToken(requestId, atMs)).toBe(model.firstToken(requestId, atMs));
          } else if (step.kind === "ended") {
            expect(ledger.ended(requestId)).toBe(model.ended(requestId));
          } else {
            expect(ledger.expire(atMs)).toBe(model.expire(atMs));
          }
          for (const pod of pods) {
            expect(ledger.load(pod)).toEqual(model.load(pod));
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
  kind: fc.constantFrom("dispatched", "dispatched", "firstToken", "ended", "expire"),
  request: fc.nat(7),
  afterMs: fc.nat(9),
  fields: fc.record({
    endpointId: fc.constantFrom(...pods),
    inputTokens: fc.nat(1000),
    uncachedTokens: fc.nat(1000),
    // Eighths add up exactly, so that sums may be compared for equality.
    workSeconds: fc.nat(64).map((eighths) => eighths / 8),
    prefixKey: fc.constantFrom(null, 1n, 2n),
  }),
});

/** Keeps the plain list of requests and computes every figure anew from it. */
class Model {
  static readonly requestsMax = 5;
  #requests: { dispatch: Dispatch; isDecoding: boolean }[] = [];
  /** Instants at which the service of a head began. */
  #heads: { pod: string; atMs: number }[] = [];

  dispatched(added: Dispatch): boolean {
    this.ended(added.requestId);
    if (this.#requests.length >= Model.requestsMax) return false;
    if (this.#waiting(added.endpointId).length === 0) {
      this.#heads.push({ pod: added.endpointId, atMs: added.atMs });
    }
    this.#requests.push({ dispatch: added, isDecoding: false });
    return true;
  }

  firstToken(requestId: string, atMs: number): boolean {
    const request = this.#requests.find((one) => one.dispatch.requestId === requestId);
    if (request === undefined || request.isDecoding) return false;
    request.isDecoding = true;
    this.#heads.push({ pod: request.dispatch.endpointId, atMs });
    return true;
  }

  ended(requestId: string): boolean {
    const before = this.#requests.length;
    this.#requests = this.#requests.filter((one) => one.dispatch.requestId !== requestId);
    return this.#requests.length < before;
  }

  expire(nowMs: number): number {
    const before = this.#requests.length;
    this.#requests = this.#requests.filter((one) => nowMs - one.dispatch.atMs <= 50);
    return before - this.#requests.length;
  }

  load(pod: string): EndpointLoad {
    const own = this.#requests.filter((one) => one.dispatch.endpointId === pod);
    const waiting = this.#waiting(pod);
    const decoding = own.filter((one) => one.isDecoding).map((one) => one.dispatch);
    return {
      requests: own.length,
      waiting: waiting.length,
      decoding: decoding.length,
      pendingWorkSeconds: sum(waiting.map((one) => one.workSeconds)),
      headSinceMs:
        waiting.length === 0 ? null : (this.#heads.findLast((h) => h.pod === pod)?.atMs ?? null),
      contextTokens: sum(decoding.map((one) => one.inputTokens)),
      inflightTokens: sum(own.map((one) => one.dispatch.inputTokens)),
      uncachedTokens: sum(own.map((one) => one.dispatch.uncachedTokens)),
    };
  }

  prefixWork(key: bigint, pod: string): { requests: number; workSeconds: number } | undefined {
    const own = this.#waiting(pod).filter((one) => one.prefixKey === key);
    if (own.length === 0) return undefined;
    return { requests: own.length, workSeconds: sum(own.map((one) => one.workSeconds)) };
  }

  #waiting(pod: string): Dispatch[] {
    return this.#requests
      .filter((one) => one.dispatch.endpointId === pod && !one.isDecoding)
      .map((one) => one.dispatch);
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
