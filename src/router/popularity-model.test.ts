/**
 * The popularity cap in the real dispatcher, against a plain model: every request and its end in a
 * list, rates and outstanding work summed up from it.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import { blockKey, type EndpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { Fleet } from "../fleet/fleet.ts";
import { HotIndex } from "../indexer/hot-index.ts";
import { InflightBlocks } from "../indexer/inflight-blocks.ts";
import { type RouterConfig, routerConfigSchema } from "./config.ts";
import type { Routed } from "./decide.ts";
import { Dispatcher, type PromptToRoute } from "./dispatcher.ts";

/** A cap so tight that it binds often. */
const TIGHT = { popularity: { slack: 0.1, floorSeconds: 0.05 } };
const ENDPOINTS = 12;
const BLOCK_TOKENS = 512;

interface Sent {
  readonly endpointId: EndpointId;
  readonly atMs: number;
  readonly workSeconds: number;
  readonly endMs: number;
  /** Whether it begins with the prefix. */
  readonly isShared: boolean;
}

/** One prefix's traffic through a router, and endpoints that serve one request after the other. */
class Traffic {
  readonly sent: Sent[] = [];
  nowMs = 0;
  readonly config: RouterConfig;
  readonly #inflight = new InflightBlocks();
  readonly #index = new HotIndex();
  readonly #fleet = new Fleet({
    ...{ clock: nodeClock, log: silentLog, meter: silentMeter, blocks: this.#inflight },
  });
  readonly #dispatcher: Dispatcher;
  readonly #freeMs = new Map<EndpointId, number>();
  #waiting: { readonly requestId: string; readonly keys: BigUint64Array; readonly entry: Sent }[] =
    [];

  readonly #head: readonly bigint[];

  /** `headBlocks`: blocks that all prompts share. */
  constructor(seed: number, headBlocks: number, options: object = {}) {
    const config = routerConfigSchema.parse(options);
    this.config = config;
    this.#head = Array.from({ length: headBlocks }, (_, index) => BigInt(index + 1));
    this.#fleet.apply(
      Array.from({ length: ENDPOINTS }, (_, number) => specOf(`10.0.0.${number + 1}:8000`)),
    );
    this.#dispatcher = new Dispatcher({
      ...{ fleet: this.#fleet, inflight: this.#inflight, config, random: seededRandom(seed) },
    });
  }

  /** `slowness`: its true work over what the router takes it for. */
  send(slowness: number, isShared = true): Routed {
    this.#end();
    const requestId = `r${this.sent.length}`;
    const tail = BigInt(1000 + 2 * this.sent.length);
    const keys = BigUint64Array.from([...(isShared ? this.#head : []), tail, tail + 1n]);
    const prompt: PromptToRoute = {
      ...{ requestId, inputTokens: keys.length * BLOCK_TOKENS, subset: null },
      ...{ prompts: 1, isFirstTokenShown: true },
      sized: [{ blockSizeTokens: BLOCK_TOKENS, keys, matches: this.#index.match(keys) }],
      ...{ excluded: new Set<EndpointId>(), states: new Map() },
    };
    const decision = this.#dispatcher.decide(prompt, this.nowMs);
    if (decision.kind === "none") throw new Error(decision.reason);
    this.#dispatcher.book(prompt, decision, { blockSizeTokens: BLOCK_TOKENS, nowMs: this.nowMs });
    const { endpointId, workSeconds } = decision.chosen;
    const startMs = Math.max(this.nowMs, this.#freeMs.get(endpointId) ?? 0);
    const endMs = startMs + 1000 * workSeconds * slowness;
    this.#freeMs.set(endpointId, endMs);
    const entry = { endpointId, workSeconds, atMs: this.nowMs, endMs, isShared };
    this.sent.push(entry);
    this.#waiting.push({ requestId, keys, entry });
    return decision;
  }

  /** Waiting work, in all or at one endpoint. */
  outstanding(endpointId?: EndpointId): number {
    return this.sent
      .filter(({ endMs, isShared }) => isShared && endMs > this.nowMs)
      .filter((each) => endpointId === undefined || each.endpointId === endpointId)
      .reduce((sum, { workSeconds }) => sum + workSeconds, 0);
  }

  /** Of all requests, or of those with the prefix. */
  workRate(which: "all" | "shared"): number {
    const counted = this.sent.filter(({ isShared }) => which === "all" || isShared);
    const decayed = counted.reduce(
      (sum, { atMs, workSeconds }) =>
        sum + workSeconds * 0.5 ** ((this.nowMs - atMs) / this.config.popularity.halfLifeMs),
      0,
    );
    return (decayed * Math.LN2 * 1000) / this.config.popularity.halfLifeMs;
  }

  #end(): void {
    const ended = this.#waiting.filter(({ entry }) => entry.endMs <= this.nowMs);
    this.#waiting = this.#waiting.filter(({ entry }) => entry.endMs > this.nowMs);
    for (const { requestId, keys, entry } of ended) {
      const holder = { endpointId: entry.endpointId, rank: 0 };
      for (const key of keys) this.#index.store(holder, "gpu", blockKey(key));
      this.#fleet.ledger.firstToken(requestId, entry.endMs);
      this.#fleet.ledger.finished(requestId, 100);
    }
  }
}

describe("popularity cap", () => {
  it("counts rate and outstanding work as a plain model does, and keeps each endpoint's share", () => {
    const steps = fc.array(
      fc.record({
        afterMs: fc.nat(80),
        slowness: fc.double({ min: 0.5, max: 3, noNaN: true }),
        isShared: fc.constantFrom(true, true, true, false),
      }),
      { minLength: 50, maxLength: 150 },
    );
    let binding = 0;
    fc.assert(
      fc.property(steps, fc.nat(1000), (drawn, seed) => {
        const traffic = new Traffic(seed, 64, TIGHT);
        const { slack, floorSeconds } = traffic.config.popularity;
        for (const { afterMs, slowness, isShared } of drawn) {
          traffic.nowMs += afterMs;
          const workRate = traffic.workRate("shared");
          const utilisation = Math.min(0.7, Math.max(0.05, traffic.workRate("all") / ENDPOINTS));
          const outAll = traffic.outstanding();
          const outAt = new Map<EndpointId, number>();
          for (const { endpointId } of traffic.sent) {
            outAt.set(endpointId, traffic.outstanding(endpointId));
          }
          const { chosen, reason, popularPrefix, candidates } = traffic.send(slowness, isShared);
          if (!isShared) continue;
          const exact = workRate / utilisation;
          const needed = Math.ceil(exact);
          // At the edge between two numbers the sums' rounding decides.
          if (Math.abs(exact - Math.round(exact)) < 1e-6) continue;
          if (needed < 2) {
            expect(popularPrefix).toBeNull();
            continue;
          }
          expect(popularPrefix).toMatchObject({ blocks: 64, holdersNeeded: needed });
          expect(popularPrefix?.workRate).toBeCloseTo(workRate, 6);
          const here = outAt.get(chosen.endpointId) ?? 0;
          const share = (outAll + chosen.workSeconds) / Math.min(needed, ENDPOINTS);
          const limit = Math.max(floorSeconds, (1 + slack) * share);
          const canBeUnder = candidates.all().some(({ cap }) => cap?.isCapped !== true);
          if (canBeUnder && here > 1e-9) {
            expect(here + chosen.workSeconds).toBeLessThanOrEqual(limit + 1e-6);
          }
          if (reason !== "cheapest") binding += 1;
        }
      }),
      { numRuns: 20 },
    );
    expect(binding).toBeGreaterThan(0);
  });

  it("gets holders as the rate grows, and loses those that it no longer needs", () => {
    const rates = fc.tuple(fc.integer({ min: 20, max: 60 }), fc.nat(1000));
    fc.assert(
      fc.property(rates, ([perSecond, seed]) => {
        const traffic = new Traffic(seed, 4);
        const run = (rate: number, seconds: number): Routed => {
          let last: Routed | null = null;
          for (let sent = 0; sent < rate * seconds; sent += 1) {
            traffic.nowMs += 1000 / rate;
            last = traffic.send(1);
          }
          if (last === null) throw new Error("nothing was sent");
          return last;
        };
        const busy = run(perSecond, 15).popularPrefix;
        expect(busy?.holdersNeeded ?? 0).toBeGreaterThan(3);
        // As many as are needed at least to keep up, if they were never idle.
        expect(busy?.holders.length ?? 0).toBeGreaterThanOrEqual(Math.floor(busy?.workRate ?? 0));
        // A rate that two holders carry: the last ones made get nothing, and age out.
        const calmer = run(1.2, 120).popularPrefix;
        expect(calmer?.holdersNeeded).toBe(2);
        expect(calmer?.holders.length ?? 0).toBeLessThan(busy?.holders.length ?? 0);
      }),
      { numRuns: 6 },
    );
  });
});
