import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { sleep } from "../core/clock.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { LmdbStore } from "./lmdb-store.ts";
import { Residency } from "./residency.ts";

const holder: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const never = new AbortController().signal;

describe("kill -9 while flushing", () => {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-lmdb-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Batch n stores block n and removes block n - 50; events go on while flushes run. */
  const child = `
    import { LmdbStore } from ${JSON.stringify(new URL("./lmdb-store.ts", import.meta.url).href)};
    import { MemoryIndex } from ${JSON.stringify(new URL("../../test/harness/memory-index.ts", import.meta.url).href)};
    import { Residency } from ${JSON.stringify(new URL("./residency.ts", import.meta.url).href)};
    const holder = { endpointId: "10.0.0.1:8000", rank: 0 };
    const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1e6 });
    const store = new LmdbStore(${JSON.stringify(folder)});
    store.restore(residency);
    let seq = (residency.cursorOf(holder)?.seq ?? -1) + 1;
    const apply = () => {
      for (let count = 0; count < 3; count += 1, seq += 1) {
        residency.stored(holder, "gpu", BigUint64Array.of(BigInt(seq)), BigUint64Array.of(BigInt(seq + 100)));
        if (seq >= 50) residency.removed(holder, "gpu", BigUint64Array.of(BigInt(seq - 50)));
        residency.setCursor(holder, { state: "EXACT", reason: null, epoch: 1, seq, engineMs: 0, blockSizeTokens: 16, model: "m" });
        residency.setLogCursor({ stream: "s", seq });
      }
      setImmediate(apply);
    };
    apply();
    process.stdout.write("ready");
    const flush = () => { store.flush(residency); setImmediate(flush); };
    flush();
  `;

  it("never leaves a cursor that is ahead of its data", async () => {
    const random = seededRandom(1);
    let seqBefore = -1;
    for (let life = 0; life < 10; life += 1) {
      const writer = spawn(process.execPath, ["--input-type=module", "-e", child], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const exited = new Promise<void>((resolve) => writer.once("exit", () => resolve()));
      await new Promise<void>((resolve) => writer.stdout.once("data", () => resolve()));
      await sleep(nodeClock, 20 + random.next() * 150, never);
      writer.kill("SIGKILL");
      await exited;

      const store = new LmdbStore(folder);
      const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1000 });
      const outcome = store.restore(residency);
      const handles = [...residency.records(holder)].map(([handle]) => handle);
      const seq = residency.cursorOf(holder)?.seq ?? -1;
      const expected = Array.from({ length: Math.min(seq + 1, 50) }, (_, age) => BigInt(seq - age));
      expect(outcome).toMatchObject({ rowsRefused: 0, isEmptied: false });
      expect(handles.sort((a, b) => Number(a - b))).toEqual(expected.reverse());
      expect(residency.logCursor?.seq ?? -1).toBe(seq);
      expect(seq).toBeGreaterThanOrEqual(seqBefore);
      seqBefore = seq;
      await store.close();
    }
    expect(seqBefore).toBeGreaterThan(100);
  }, 60_000);
});
