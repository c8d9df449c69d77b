import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BoundedQueue } from "./bounded-queue.ts";

describe("BoundedQueue", () => {
  it("refuses an item when it is full, and takes one again when there is room", () => {
    const queue = new BoundedQueue<number>(2);
    expect([queue.push(1), queue.push(2), queue.push(3)]).toEqual([true, true, false]);
    expect(queue.take(1)).toEqual([1]);
    expect(queue.push(4)).toBe(true);
    expect(queue.take(10)).toEqual([2, 4]);
  });

  it("wakes its waiter with an item", async () => {
    const queue = new BoundedQueue<number>(2);
    const waited = queue.wait(new AbortController().signal);
    queue.push(1);
    await waited;
    expect(queue.length).toBe(1);
  });

  it("does not wait while there are items, nor after an abort", async () => {
    const queue = new BoundedQueue<number>(2);
    const controller = new AbortController();
    const waited = queue.wait(controller.signal);
    controller.abort();
    await waited;
    await queue.wait(controller.signal);
    queue.push(1);
    await queue.wait(new AbortController().signal);
  });

  it("keeps order and bound like a plain list", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("push" as const), item: fc.nat() }),
      fc.record({ kind: fc.constant("take" as const), item: fc.nat(5) }),
    );
    fc.assert(
      fc.property(fc.nat(4), fc.array(step), (itemsMax, steps) => {
        const queue = new BoundedQueue<number>(itemsMax);
        const model: number[] = [];
        for (const { kind, item } of steps) {
          if (kind === "take") {
            expect(queue.take(item)).toEqual(model.splice(0, item));
            continue;
          }
          const hasRoom = model.length < itemsMax;
          expect(queue.push(item)).toBe(hasRoom);
          if (hasRoom) model.push(item);
        }
        expect(queue.length).toBe(model.length);
      }),
    );
  });
});
