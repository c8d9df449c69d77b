import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type EndpointId, endpointId } from "../core/ids.ts";
import { type EndpointLoad, IDLE_LOAD, kvTokens } from "./endpoint-load.ts";
import { backlogAt, PeerLoads, peerWeight, shareLine } from "./peer-loads.ts";

const A = endpointId("10.0.0.1:8000");
const B = endpointId("10.0.0.2:8000");

const loads = fc.record({
  waiting: fc.integer({ min: 1, max: 50 }),
  decoding: fc.integer({ min: 0, max: 50 }),
  pendingSeconds: fc.double({ min: 0, max: 100, noNaN: true }),
  contextTokens: fc.integer({ min: 0, max: 1e6 }),
  blockTokens: fc.integer({ min: 0, max: 1e6 }),
});

function loadOf(drawn: Partial<EndpointLoad>): EndpointLoad {
  const requests = (drawn.waiting ?? 0) + (drawn.decoding ?? 0);
  return { ...IDLE_LOAD, headSinceMs: 1000, ...drawn, requests };
}

const told = (peers: PeerLoads, id: EndpointId): number =>
  peers.at(id).reduce((sum, { waiting }) => sum + waiting, 0);

describe("peer loads", () => {
  it("hears what a router told of itself, and nothing of what is idle", () => {
    fc.assert(
      fc.property(loads, (drawn) => {
        const load = loadOf(drawn);
        const peers = new PeerLoads();
        const line = shareLine(
          { peer: "r1" },
          [
            [A, load],
            [B, IDLE_LOAD],
          ],
          1000,
        );
        expect(peers.receive(line, 2000)).toBeNull();
        expect(peers.at(B)).toEqual([]);
        const [heard] = peers.at(A);
        expect(heard).toMatchObject({
          ...{ atMs: 2000, waiting: load.waiting, decoding: load.decoding },
          ...{ contextTokens: load.contextTokens, kvTokens: kvTokens(load) },
        });
        expect(Math.abs((heard?.pendingSeconds ?? -1) - load.pendingSeconds)).toBeLessThan(0.001);
      }),
    );
  });

  it("replaces a router's former state, and shows it to whoever has the live array", () => {
    const peers = new PeerLoads();
    const live = peers.at(A);
    peers.receive(shareLine({ peer: "r1" }, [[A, loadOf({ waiting: 3 })]], 0), 0);
    peers.receive(shareLine({ peer: "r2" }, [[A, loadOf({ waiting: 4 })]], 0), 0);
    expect(told(peers, A)).toBe(7);
    peers.receive(shareLine({ peer: "r1" }, [[B, loadOf({ waiting: 1 })]], 5), 5);
    expect(told(peers, A)).toBe(4);
    expect(live.length).toBe(1);
    peers.receive("r2;;", 6);
    expect(live.length).toBe(0);
    expect(peers.size).toBe(2);
  });

  it("lets a router that falls silent fade, and forgets it", () => {
    const peers = new PeerLoads();
    peers.receive(shareLine({ peer: "r1" }, [[A, loadOf({ waiting: 3 })]], 0), 0);
    const [peer] = peers.at(A);
    if (peer === undefined) throw new Error("not heard");
    const weights = [0, 5000, 10_000, 15_000, 20_000, 99_000].map((at) => peerWeight(peer, at));
    expect(weights).toEqual([1, 1, 1, 0.5, 0, 0]);
    peers.expire(19_999);
    expect(peers.size).toBe(1);
    peers.expire(20_000);
    expect(peers.size).toBe(0);
    expect(peers.at(A)).toEqual([]);
  });

  it("sums what routers had served while they were heard, whoever begins anew or falls silent", () => {
    const peers = new PeerLoads();
    peers.at(A);
    const tell = (peer: string, servedSeconds: number): void => {
      peers.receive(shareLine({ peer }, [[A, loadOf({ waiting: 1, servedSeconds })]], 0), 0);
    };
    tell("r1", 100);
    expect(peers.servedSeconds(A)).toBe(0);
    tell("r1", 103);
    tell("r2", 50);
    tell("r2", 51.5);
    expect(peers.servedSeconds(A)).toBeCloseTo(4.5, 9);
    tell("r1", 1);
    tell("r1", 2);
    expect(peers.servedSeconds(A)).toBeCloseTo(5.5, 9);
    peers.keep(new Set([B]));
    expect(peers.servedSeconds(A)).toBe(0);
  });

  it("takes no line that is not whole, whatever it is, and stays as it was", () => {
    const good = shareLine({ peer: "r1" }, [[A, loadOf({ waiting: 3, pendingSeconds: 1 })]], 1000);
    const damaged = fc
      .tuple(fc.nat(good.length - 1), fc.string({ unit: "binary" }))
      .map(([at, text]) => good.slice(0, at) + text + good.slice(at + 1));
    fc.assert(
      fc.property(fc.oneof(damaged, fc.string({ unit: "binary" })), (line) => {
        const peers = new PeerLoads();
        peers.receive(good.replace("r1", "known"), 0);
        const refusal = peers.receive(line, 0);
        expect([null, "form", "full"]).toContain(refusal);
        if (refusal !== null) expect(told(peers, A)).toBe(3);
        for (const load of peers.at(A)) {
          const values: number[] = Object.values(load);
          expect(values.every((value) => Number.isFinite(value) && value >= 0)).toBe(true);
        }
      }),
    );
  });

  it("refuses what is too long, and routers beyond its number, until others are gone", () => {
    const peers = new PeerLoads();
    expect(peers.receive(`r;${"|".repeat(400_000)}`, 0)).toBe("form");
    for (let number = 0; number < 64; number += 1) {
      expect(peers.receive(`r${number};;`, number)).toBeNull();
    }
    expect(peers.receive("one too many;;", 100)).toBe("full");
    expect(peers.receive("r5;;", 100)).toBeNull();
    expect(peers.receive("one too many;;", 20_001)).toBeNull();
  });
});

describe("backlogAt", () => {
  const load = loadOf({ waiting: 2, pendingSeconds: 1.5, headSinceMs: 1000 });

  it("is the own work less what the head was served, without other routers", () => {
    expect(backlogAt({ ...load, speed: 2 }, [], 1250)).toEqual({ ownSeconds: 1, peerSeconds: 0 });
    expect(backlogAt(load, [], 9000)).toEqual({ ownSeconds: 0, peerSeconds: 0 });
  });

  it("lets routers' parts shrink by their shares of what was served", () => {
    const peers = new PeerLoads();
    peers.receive(`r2;${A},4.5,1,0,0,0,0,0,0;`, 1000);
    const left = backlogAt(load, peers.at(A), 3000);
    // 6 s were known, 2 s were served: a third of each is gone.
    expect(left.ownSeconds).toBeCloseTo(1, 9);
    expect(left.peerSeconds).toBeCloseTo(3, 9);
    expect(backlogAt(load, peers.at(A), 60_000)).toEqual({ ownSeconds: 0, peerSeconds: 0 });
    const idle = backlogAt(IDLE_LOAD, peers.at(A), 1000);
    expect(idle).toEqual({ ownSeconds: 0, peerSeconds: 4.5 });
  });
});
