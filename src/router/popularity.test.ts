import { describe, expect, it } from "vitest";
import { endpointId } from "../core/ids.ts";
import { routerConfigSchema } from "./config.ts";
import { Popularity } from "./popularity.ts";

const config = routerConfigSchema.parse({}).popularity;
const POD = endpointId("10.0.0.1:8000");
const HEAD = [11n, 12n, 13n, 14n];
const prompt = (...tail: bigint[]): BigUint64Array => BigUint64Array.from([...HEAD, ...tail]);

/** Sends requests at a steady rate for a minute; each brings `workSeconds`. */
function send(popularity: Popularity, perSecond: number, workSeconds: number): number {
  const requests = 60 * perSecond;
  for (let sent = 0; sent < requests; sent += 1) {
    const tail = BigInt(1000 + sent);
    const keys = prompt(tail, tail + 1n, tail + 2n, tail + 3n);
    const nowMs = (sent / perSecond) * 1000;
    popularity.observe(keys, { endpointId: POD, workSeconds, nowMs, endpoints: 1 });
  }
  return 60_000;
}

describe("popularity", () => {
  it("finds the deepest shared prefix and the holders that its work needs", () => {
    const popularity = new Popularity(config);
    const nowMs = send(popularity, 20, 0.1);
    const popular = popularity.popularPrefix(prompt(1n), { nowMs, endpoints: 1 });
    expect(popular).toMatchObject({ key: 14n, blocks: 4 });
    // 20 requests a second of 0.1 s each are 2 endpoints' time; 70 % are planned: 3 endpoints.
    expect(popular?.workRate).toBeGreaterThan(1.8);
    expect(popular?.workRate).toBeLessThan(2.2);
    expect(popular?.holdersNeeded).toBe(3);
  });

  it("plans holders to be as busy as the mean endpoint", () => {
    const popularity = new Popularity(config);
    const nowMs = send(popularity, 20, 0.1);
    // 2 s of work a second on 10 endpoints: each is to have a fifth of its time filled.
    const popular = popularity.popularPrefix(prompt(1n), { nowMs, endpoints: 10 });
    expect(popular?.holdersNeeded).toBeGreaterThanOrEqual(10);
    expect(popular?.holdersNeeded).toBeLessThanOrEqual(11);
    // An idle fleet has holders for what comes, not everywhere.
    const idle = popularity.popularPrefix(prompt(1n), { nowMs, endpoints: 1000 });
    expect(idle?.holdersNeeded).toBeLessThan(45);
  });

  it("calls nothing popular that one endpoint can carry, and forgets what is over", () => {
    const popularity = new Popularity(config);
    const nowMs = send(popularity, 20, 0.02);
    expect(popularity.popularPrefix(prompt(1n), { nowMs, endpoints: 1 })).toBeNull();
    const busy = new Popularity(config);
    const endMs = send(busy, 20, 0.1);
    expect(
      busy.popularPrefix(prompt(1n), { nowMs: endMs + 10 * config.halfLifeMs, endpoints: 1 }),
    ).toBeNull();
  });

  it("keeps no more prefixes than its limit, least recently seen first out", () => {
    const popularity = new Popularity({ ...config, prefixesMax: 100 });
    send(popularity, 50, 0.1);
    expect(popularity.size).toBe(100);
    expect(popularity.popularPrefix(prompt(1n), { nowMs: 60_000, endpoints: 1 })).toMatchObject({
      key: 14n,
    });
  });

  it("does nothing when it is off", () => {
    const popularity = new Popularity({ ...config, isOn: false });
    const nowMs = send(popularity, 20, 1);
    expect(popularity.popularPrefix(prompt(1n), { nowMs, endpoints: 1 })).toBeNull();
    expect(popularity.size).toBe(0);
  });
});
