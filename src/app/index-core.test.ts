import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import { blockKey, endpointId, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { indexerConfigSchema } from "../indexer/config.ts";
import { EvictionBoard } from "../indexer/eviction-board.ts";
import { IndexCore } from "./index-core.ts";

/** More than are restored in one turn. */
const BLOCKS = 100_000;
const holders: readonly Holder[] = [1, 2].map((each) => ({
  endpointId: endpointId(`10.0.0.${each}:8000`),
  rank: 0,
}));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kvatlas-core-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const cursor = {
  ...({ state: "EXACT", reason: null, epoch: 1, seq: 3, engineMs: 1 } as const),
  ...{ blockSizesTokens: [16], model: "m", ignoredGroups: [] },
};

function start(path: string | null, bytesMax = 2 ** 30, keySeed = 0): IndexCore {
  const ports = { clock: nodeClock, log: silentLog, meter: recordingMeter() };
  const config = indexerConfigSchema.parse({ path, bytesMax, keySeed });
  return new IndexCore(config, { ...ports, evictions: new EvictionBoard() });
}

async function fill(path: string): Promise<void> {
  const core = start(path);
  await core.restored;
  for (const [place, holder] of holders.entries()) {
    const words = BigUint64Array.from({ length: BLOCKS }, (_, block) =>
      BigInt(place * BLOCKS + block),
    );
    core.residency.stored(holder, "gpu", words, words);
    core.residency.setCursor(holder, cursor);
  }
  await core.stop();
}

it("answers while it is restored, and says of which holders not all is there", async () => {
  const path = join(folder, "store");
  await fill(path);
  const core = start(path);
  await core.opened;
  const states = (): unknown =>
    holders.map((holder) => core.residency.cursorOf(holder)?.reason ?? "whole");
  expect(states()).toEqual(["restoring", "restoring"]);
  expect(core.residency.blockSizes()).toEqual(new Set([16]));
  expect(core.index.match(BigUint64Array.of(5n))).toEqual([]);
  expect(await core.restored).toBe(true);
  expect(states()).toEqual(["whole", "whole"]);
  expect(core.index.residency(blockKey(5n))).toHaveLength(1);
  expect(core.index.stats().blocks).toBe(2 * BLOCKS);
  expect(core.storeDetail).toBe(`${2 * BLOCKS} blocks of 2 holders restored; written behind`);
  await core.stop();
});

it("that is stopped while it is restored leaves the store as it is", async () => {
  const path = join(folder, "store");
  await fill(path);
  const stopped = start(path);
  await stopped.opened;
  await stopped.stop();
  expect(await stopped.restored).toBe(false);
  const core = start(path);
  await core.restored;
  expect(core.index.stats().blocks).toBe(2 * BLOCKS);
  await core.stop();
});

it("serves from memory where the store cannot be used, and says why", async () => {
  writeFileSync(join(folder, "file"), "");
  const core = start(join(folder, "file", "store"));
  expect(await core.restored).toBe(true);
  expect(core.storeDetail).toContain("not usable (unwritable)");
  const [holder] = holders;
  if (holder === undefined) return;
  core.residency.stored(holder, "gpu", BigUint64Array.of(1n), BigUint64Array.of(1n));
  expect(core.index.match(BigUint64Array.of(1n))).toMatchObject([{ blocks: 1 }]);
  await core.stop();
});

it("says what became of a store that could not be resumed from", async () => {
  const path = join(folder, "store");
  await fill(path);
  const other = start(path, undefined, 7);
  await other.restored;
  expect(other.storeDetail).toContain(
    "begun anew: the former store had another layout or key seed",
  );
  await other.stop();
  writeFileSync(join(path, "data.mdb"), "not of LMDB");
  const core = start(path);
  await core.restored;
  expect(core.storeDetail).toContain(`the former store (foreign) is in ${path}.damaged`);
  await core.stop();
  rmSync(path, { recursive: true });
  writeFileSync(path, "");
  const none = start(path);
  await none.restored;
  expect(none.storeDetail).toContain("not usable (unwritable)");
  await none.stop();
});

it("shrinks to a smaller budget as events come", async () => {
  const path = join(folder, "store");
  await fill(path);
  const bytesMax = 2 ** 23;
  const core = start(path, bytesMax);
  await core.restored;
  const [holder] = holders;
  for (let block = 0n; holder !== undefined && block < 30n; block += 1n) {
    const words = BigUint64Array.of(10_000_000n + block);
    core.residency.stored(holder, "gpu", words, words);
  }
  expect(core.index.stats().blocks * 64).toBeLessThanOrEqual(bytesMax);
  expect(core.residency.cursorOf(holders[1] as Holder)?.reason).toBe("index-full");
  await core.stop();
});
