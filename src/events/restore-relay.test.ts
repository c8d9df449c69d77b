/** What a relay that starts again takes the blocks of lower tiers for. */
import { beforeAll, expect, it } from "vitest";
import { endpointId, engineKey, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import { HotIndex } from "../indexer/hot-index.ts";
import { Residency } from "../indexer/residency.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { Applier } from "./applier.ts";
import { HolderRelay } from "./holder-relay.ts";
import type { BlockStored, KvEvent } from "./kv-event.ts";
import { restoreRelay } from "./restore-relay.ts";

const MODEL = "model";
const holder: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };

let hasher: BlockHasher;
beforeAll(async () => {
  hasher = await createBlockHasher(0);
});

const stored = (
  handle: bigint,
  size: number,
  medium: string,
  parent: bigint | null,
): BlockStored => ({
  ...{ type: "stored", handles: BigUint64Array.of(handle), medium, blockSizeTokens: size },
  parent: parent === null ? null : engineKey(parent),
  tokens: Uint32Array.from({ length: size }, (_, at) => Number(handle) + 10 * at),
  ...{ loraName: null, loraId: null, extraKeys: [null], group: null, specKind: null },
});

const removed = (handle: bigint, medium: string): KvEvent => ({
  ...{ type: "removed", handles: BigUint64Array.of(handle), medium, group: null },
});

class Played {
  readonly residency = new Residency({ index: new HotIndex(1000), entriesMax: 1000 });
  readonly #applier = new Applier({
    ...{ residency: this.residency, clock: nodeClock, log: silentLog, meter: silentMeter },
  });
  #seq = -1;

  say(relay: HolderRelay, ...events: KvEvent[]): void {
    this.#seq += 1;
    const batch = { ts: 1 + this.#seq, rank: null, events };
    for (const each of relay.live({ seq: this.#seq, batch }).batches) this.#applier.accept(each);
  }

  /** Copies of a block by tier: gpu, cpu, nvme, shared. */
  copies(handle: bigint): readonly number[] {
    return new Map(this.residency.records(holder)).get(handle)?.copies ?? [0, 0, 0, 0];
  }
}

function newRelay(): HolderRelay {
  return new HolderRelay({ holder, model: MODEL, hasher, canReplay: false });
}

/** Blocks of two sizes on the GPU, and the second block in the CPU, or a connector's chunk there. */
function played(cpuMedium: "CPU" | "cpu"): Residency {
  const playing = new Played();
  const own = [stored(1n, 2, "GPU", null), stored(2n, 4, "GPU", 1n)];
  const lower = cpuMedium === "cpu" ? stored(3n, 8, "cpu", null) : stored(2n, 4, "CPU", 1n);
  playing.say(newRelay(), ...own, lower);
  return playing.residency;
}

/** What a relay that starts again with this says is gone, long after. */
function goneAfter(residency: Residency): bigint[] {
  const relay = newRelay();
  restoreRelay(relay, residency, { model: MODEL });
  const { batches } = relay.elapsed(1e9);
  return batches.flatMap(({ events }) =>
    events.flatMap((event) => (event.type === "removed" ? [...event.handles] : [])),
  );
}

it("believes a connector's chunks no longer than for their life", () => {
  const residency = played("cpu");
  expect(residency.cursorOf(holder)?.reason).toBe("no-removals");
  expect(goneAfter(residency)).toEqual([3n]);
});

it.each(["catching-up", "log-truncated", "unknown-parent"])(
  "leaves the offloaded blocks of an engine with several sizes, which is %s and will be EXACT",
  (reason) => {
    const residency = played("CPU");
    const cursor = residency.cursorOf(holder);
    if (cursor === null) throw new Error("nothing was applied");
    expect(cursor).toMatchObject({ state: "EXACT", blockSizesTokens: [2, 4] });
    residency.setCursor(holder, { ...cursor, state: "DEGRADED", reason });
    expect(goneAfter(residency)).toEqual([]);
  },
);

it("gives a relay of another model no handles", () => {
  const relay = new HolderRelay({ holder, model: "other", hasher, canReplay: false });
  restoreRelay(relay, played("CPU"), { model: "other" });
  const batch = { ts: 2, rank: null, events: [stored(9n, 2, "GPU", 2n)] };
  const [keyed] = relay.live({ seq: 1, batch }).batches;
  expect(keyed?.events).toContainEqual({ type: "lost", reason: "unknown-parent" });
});

it("takes a removal for that of the copy that waits where another tier alone has the block", () => {
  const playing = new Played();
  const [parent, child] = [stored(1n, 2, "GPU", null), stored(2n, 2, "GPU", 1n)];
  const offloaded = { ...stored(2n, 0, "CPU", null), tokens: new Uint32Array(0) };
  const gone = [removed(1n, "GPU"), removed(2n, "GPU")];
  playing.say(newRelay(), parent, child, offloaded, ...gone);
  expect(playing.copies(2n)).toEqual([0, 1, 0, 0]);
  const relay = newRelay();
  restoreRelay(relay, playing.residency, { model: MODEL });
  playing.say(relay, child);
  playing.say(relay, removed(2n, "GPU"));
  expect(playing.residency.cursorOf(holder)?.reason).toBe("uncounted-copies");
  playing.say(relay, parent);
  expect([playing.copies(1n), playing.copies(2n)]).toEqual([
    [1, 0, 0, 0],
    [0, 1, 0, 0],
  ]);
});
