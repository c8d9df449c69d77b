import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type EndpointId, endpointId } from "../core/ids.ts";
import { PeerPrompts, parsePrompts } from "./peer-prompts.ts";

const A = endpointId("10.0.0.1:8000");
const B = endpointId("10.0.0.2:8000");

/** Chained keys: equal as far as the prompts are. */
function keysOf(shared: number, own: number, salt: number): BigUint64Array {
  const head = Array.from({ length: shared }, (_, index) => BigInt(1 + index));
  const tail = Array.from({ length: own }, (_, index) => 2n ** 63n + BigInt(salt * 1e6 + index));
  return BigUint64Array.from([...head, ...tail]);
}

/** What one router tells, another believes. */
function tell(from: PeerPrompts, to: PeerPrompts, nowMs: number): void {
  const prompts = parsePrompts(from.takeText());
  if (prompts === null) throw new Error("not of the form");
  to.believe(prompts, nowMs);
}

describe("PeerPrompts", () => {
  it("tells of a shared beginning to within the distance of two keys, and never of more", () => {
    const sizes = fc.tuple(fc.nat(3000), fc.nat(3000), fc.nat(3000));
    fc.assert(
      fc.property(sizes, ([shared, theirs, ours]) => {
        fc.pre(shared + theirs > 0);
        const sender = new PeerPrompts();
        const receiver = new PeerPrompts();
        sender.dispatched(A, keysOf(shared, theirs, 1));
        tell(sender, receiver, 0);
        const blocks = receiver.leading(keysOf(shared, ours, 2), 0).get(A) ?? 0;
        const stride = Math.max(1, (2 * (shared + theirs)) / 32);
        expect(blocks).toBeLessThanOrEqual(shared);
        expect(blocks).toBeGreaterThan(shared - stride);
      }),
    );
  });

  it("has forgotten everything at the end of time", () => {
    const [sender, receiver] = [new PeerPrompts(), new PeerPrompts()];
    sender.dispatched(A, keysOf(4, 0, 0));
    tell(sender, receiver, 0);
    expect(receiver.leading(keysOf(4, 0, 0), Number.POSITIVE_INFINITY).size).toBe(0);
  });

  it("believes each prompt for five seconds from when it was told last", () => {
    const sender = new PeerPrompts();
    const receiver = new PeerPrompts();
    const prompt = keysOf(4, 0, 0);
    const heldBy = (nowMs: number): EndpointId[] => [...receiver.leading(prompt, nowMs).keys()];
    sender.dispatched(A, prompt);
    sender.dispatched(B, prompt);
    tell(sender, receiver, 0);
    sender.dispatched(A, prompt);
    tell(sender, receiver, 3000);
    expect(heldBy(4999).toSorted()).toEqual([A, B]);
    expect(heldBy(5000)).toEqual([A]);
    expect(heldBy(7999)).toEqual([A]);
    expect(heldBy(8000)).toEqual([]);
  });

  it("tells each dispatch once, the newest 64, and keeps the newest 8,192 of others", () => {
    const sender = new PeerPrompts();
    const receiver = new PeerPrompts();
    for (let number = 0; number < 100; number += 1) sender.dispatched(A, keysOf(0, 1, number));
    expect(sender.takeText().split("|")).toHaveLength(64);
    expect(sender.takeText()).toBe("");
    for (let number = 0; number < 8193; number += 1) {
      sender.dispatched(A, keysOf(0, 1, number));
      tell(sender, receiver, 0);
    }
    expect(receiver.leading(keysOf(0, 1, 0), 0).size).toBe(0);
    expect(receiver.leading(keysOf(0, 1, 1), 0).size).toBe(1);
    expect(receiver.leading(keysOf(0, 1, 8192), 0).size).toBe(1);
  });

  it("takes nothing that is not of the form, whatever it is", () => {
    const good = `${A},2,1f,2f|${B},1,3f`;
    expect(parsePrompts(good)).toHaveLength(2);
    for (const bad of [`${A},3,1f`, `${A},0,1f`, `${A},2,1g`, `${A},131072,1f`, `${A},2,`, "x"]) {
      expect(parsePrompts(bad), bad).toBeNull();
    }
    expect(parsePrompts(`${A},1${",1".repeat(33)}`)).toBeNull();
    expect(parsePrompts(Array.from({ length: 65 }, () => `${A},1,1`).join("|"))).toBeNull();
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.nat(good.length), (text, at) => {
        const prompts = parsePrompts(good.slice(0, at) + text + good.slice(at));
        for (const { keys } of prompts ?? []) {
          expect(keys.every((key) => key >= 0n && key < 2n ** 64n)).toBe(true);
        }
      }),
    );
  });
});
