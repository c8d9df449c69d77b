/** A request split between a prefill and a decode endpoint, through real Envoy and the real router. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeClock } from "../../src/core/node-clock.ts";
import { envoyRecipe } from "../../src/lab/file-envoy-recipe.ts";
import { type RunningEnvoy, startEnvoy } from "../../src/lab/process-envoy.ts";
import { requireBinary } from "../harness/binaries.ts";
import { RouterProcess } from "../harness/router-process.ts";
import { startUpstream, type TestUpstream } from "../harness/test-upstream.ts";
import { waitUntil } from "../harness/wait-until.ts";

const envoy = await requireBinary("envoy");

describe.skipIf(envoy.isMissing)(`roles through real Envoy${envoy.note}`, () => {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-roles-"));
  let upstreams: TestUpstream[] = [];
  let router: RouterProcess | null = null;
  let proxy: RunningEnvoy | null = null;

  beforeAll(async () => {
    upstreams = await Promise.all([startUpstream(), startUpstream()]);
    const [prefill, decode] = upstreams.map(({ address }) => address);
    router = await RouterProcess.start({
      folder,
      endpoints: [
        { name: "p", address: prefill ?? "", role: "prefill" },
        { name: "d", address: decode ?? "", role: "decode" },
      ],
    });
    proxy = await startEnvoy({
      binary: envoy.path,
      clock: nodeClock,
      config: envoyRecipe({
        ...{ listenAddress: "127.0.0.1:0", adminAddress: "127.0.0.1:0" },
        extProcAddress: router.extProcAddress,
        endpoints: upstreams.map(({ address }) => address),
      }),
    });
  });
  afterAll(async () => {
    await proxy?.stop();
    await router?.stop();
    await Promise.all(upstreams.map((upstream) => upstream.close()));
    rmSync(folder, { recursive: true });
  });

  /** Who served it, and by whom its headers there have it prefilled. */
  async function served(): Promise<readonly (string | null | undefined)[]> {
    const answer = await fetch(`http://${proxy?.listenAddress}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-prefiller-host-port": "10.9.9.9:22" },
      body: JSON.stringify({ model: "lab-8b", prompt: Array.from({ length: 64 }, (_, i) => i) }),
    });
    if (answer.status !== 200) return [String(answer.status)];
    const passed: Readonly<Record<string, string>> = JSON.parse(await answer.text());
    return [answer.headers.get("x-served-by"), passed["x-prefiller-host-port"]];
  }

  it("goes to the decode endpoint with the prefill endpoint's name, whatever the client names", async () => {
    const [prefill, decode] = upstreams.map(({ address }) => address);
    expect(await served()).toEqual([decode, prefill]);
    const counted = await router?.metric("kvatlas_endpoint_decisions_total", prefill ?? "");
    expect(counted).toBe(1);
  });

  it("goes whole to an endpoint of both roles, once the endpoints file says so", async () => {
    const [one, other] = upstreams.map(({ address }) => address);
    const endpoints = [
      { name: "p", address: one, role: "prefill" },
      { name: "d", address: other, role: "both" },
    ];
    writeFileSync(join(folder, "endpoints.yaml"), JSON.stringify({ endpoints }));
    await waitUntil("the file is applied", async () => (await served())[1] === undefined);
    expect(await served()).toEqual([other, undefined]);
  });
});
