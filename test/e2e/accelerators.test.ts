/** Endpoints of two classes of accelerators, through real Envoy and the real router. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeClock } from "../../src/core/node-clock.ts";
import { envoyRecipe } from "../../src/lab/file-envoy-recipe.ts";
import { startEnvoy } from "../../src/lab/process-envoy.ts";
import { requireBinary } from "../harness/binaries.ts";
import { RouterProcess } from "../harness/router-process.ts";
import { promptOf } from "../harness/stack.ts";
import { startUpstream, type TestUpstream } from "../harness/test-upstream.ts";

const envoy = await requireBinary("envoy");
const CLASSES = {
  fast: { prefillTokensPerSecond: 68_000, dollarsPerHour: 4 },
  cheap: { prefillTokensPerSecond: 17_000, dollarsPerHour: 0.5 },
};
const REQUESTS = 6;

describe.skipIf(envoy.isMissing)(`classes of accelerators through real Envoy${envoy.note}`, () => {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-classes-"));
  let upstreams: TestUpstream[] = [];

  beforeAll(async () => {
    upstreams = await Promise.all([startUpstream(), startUpstream()]);
  });
  afterAll(async () => {
    await Promise.all(upstreams.map((upstream) => upstream.close()));
    rmSync(folder, { recursive: true });
  });

  it.each([
    ["the faster one where a dollar is worth little", 0, "fast"],
    ["the cheaper one where a dollar is worth ten hours", 36_000, "cheap"],
  ] as const)("send idle requests to %s", async (_, secondsPerDollar, expected) => {
    const names = Object.keys(CLASSES);
    const addresses = upstreams.map(({ address }) => address);
    const router = await RouterProcess.start({
      folder,
      endpoints: addresses.map((address, i) => {
        const accelerator = names[i] ?? "";
        return { name: accelerator, address, accelerator };
      }),
      config: { router: { accelerators: CLASSES, secondsPerDollar } },
    });
    const proxy = await startEnvoy({
      binary: envoy.path,
      clock: nodeClock,
      config: envoyRecipe({
        ...{ listenAddress: "127.0.0.1:0", adminAddress: "127.0.0.1:0" },
        ...{ extProcAddress: router.extProcAddress, endpoints: addresses },
      }),
    });
    try {
      const [fast = "", cheap = ""] = addresses;
      expect(await router.metric("kvatlas_endpoint_speed_ratio", fast)).toBe(4);
      expect(await router.metric("kvatlas_endpoint_speed_ratio", cheap)).toBe(1);
      const served = new Set<string | null>();
      for (let n = 0; n < REQUESTS; n += 1) {
        // Streamed, so that the first byte of each is its first token, and none waits for another.
        const body = { model: "lab-8b", prompt: promptOf(n, 2048), stream: true };
        const answer = await fetch(`http://${proxy.listenAddress}/v1/completions`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body),
        });
        expect(answer.status).toBe(200);
        await answer.text();
        served.add(answer.headers.get("x-served-by"));
      }
      expect([...served]).toEqual([expected === "fast" ? fast : cheap]);
    } finally {
      await proxy.stop();
      await router.stop();
    }
  });
});
