import { describe, expect, it } from "vitest";
import { engineKey } from "../core/ids.ts";
import type { BlockStored } from "./kv-event.ts";
import { ORPHANS_MAX, Orphans } from "./orphans.ts";

const handle = (number: number): ReturnType<typeof engineKey> => engineKey(BigInt(number));

function stored(handles: readonly number[], medium = "GPU"): BlockStored {
  return {
    ...{ type: "stored", handles: BigUint64Array.from(handles, BigInt), parent: null, medium },
    ...{ tokens: new Uint32Array(handles.length), blockSizeTokens: 1, extraKeys: null },
    ...{ loraName: null, loraId: null, group: null, specKind: null },
  };
}

const GPU = { medium: "GPU", group: null };
const CPU = { medium: "CPU", group: null };

describe("removals of blocks that wait", () => {
  it("are kept once for each copy; one more is of a block that is not there", () => {
    const orphans = new Orphans();
    orphans.hold(stored([1, 2, 1]), handle(99));
    const took = [1, 1, 1, 3].map((each) => orphans.removed(handle(each), GPU));
    expect(took).toEqual([true, true, false, false]);
    expect(orphans.removed(handle(2), CPU)).toBe(false);
    expect(orphans.take(handle(99))).toMatchObject([
      { type: "stored" },
      { type: "removed", handles: BigUint64Array.of(1n, 1n), medium: "GPU" },
    ]);
    expect(orphans.removed(handle(2), GPU)).toBe(false);
  });

  it("are counted in each medium and group, and for every event that has the block", () => {
    const orphans = new Orphans();
    orphans.hold(stored([1]), handle(98));
    orphans.hold(stored([1, 2]), handle(99));
    orphans.hold(stored([1], "CPU"), handle(97));
    const took = [GPU, { medium: "device", group: null }, GPU, CPU, CPU];
    expect(took.map((place) => orphans.removed(handle(1), place))).toEqual([
      ...[true, true, false],
      ...[true, false],
    ]);
    expect(orphans.size).toBe(1);
    for (const place of [
      { medium: "CPU_TIER1", group: null },
      { medium: "GPU", group: 2 },
    ]) {
      expect(orphans.removed(handle(2), place)).toBe(false);
    }
  });

  it("go to copies that are placed first, each of which is gone once", () => {
    const orphans = new Orphans();
    orphans.hold(stored([1, 2, 4]), handle(99));
    const handles = BigUint64Array.of(1n, 2n, 1n, 3n, 1n);
    const removal = { type: "removed", handles, ...GPU } as const;
    const left = orphans.removeWaiting(removal, (each) => (each === 1n ? 1 : 0));
    expect(left).toEqual(BigUint64Array.of(1n, 3n, 1n));
    expect(orphans.take(handle(99))).toMatchObject([
      { type: "stored" },
      { type: "removed", handles: BigUint64Array.of(2n, 1n) },
    ]);
  });

  it("say whether a clear may leave any of them below the GPU", () => {
    const orphans = new Orphans();
    orphans.hold(stored([1]), handle(98));
    expect(orphans.mayBeLower).toBe(false);
    orphans.hold(stored([1], "CPU"), handle(97));
    expect(orphans.mayBeLower).toBe(true);
    orphans.removed(handle(1), { medium: "cpu", group: null });
    expect(orphans.mayBeLower).toBe(false);
    orphans.setElsewhere(true);
    expect(orphans.mayBeLower).toBe(true);
  });

  it("are many of one block within a moment", () => {
    const orphans = new Orphans();
    const same = new Array<number>(128).fill(1);
    for (let each = 0; each < ORPHANS_MAX; each += 1) orphans.hold(stored(same), handle(99));
    expect(orphans.removed(handle(1), GPU)).toBe(true);
    expect(orphans.take(handle(99))).toHaveLength(ORPHANS_MAX + 1);
    expect(orphans.removed(handle(1), GPU)).toBe(false);
  });

  it("make room where nothing of an event is left", () => {
    const orphans = new Orphans();
    for (let each = 0; each < 2 * ORPHANS_MAX; each += 1) {
      expect(orphans.hold(stored([each]), handle(1_000_000 + each))).toBe(true);
      expect(orphans.removed(handle(each), GPU)).toBe(true);
    }
    expect(orphans.size).toBe(0);
    expect(orphans.take(handle(1_000_000))).toEqual([]);
  });

  it("leave the event where another one waits for its block: only it knows the key", () => {
    const orphans = new Orphans();
    orphans.hold(stored([1]), handle(99));
    orphans.hold(stored([2]), handle(1));
    orphans.removed(handle(1), GPU);
    expect(orphans.size).toBe(2);
    expect(orphans.take(handle(99)).map(({ type }) => type)).toEqual(["stored", "removed"]);
    expect(orphans.take(handle(1)).map(({ type }) => type)).toEqual(["stored"]);
    expect(orphans.size).toBe(0);
  });
});
