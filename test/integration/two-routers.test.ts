/** Two routers behind a real Envoy with the recipes: what the end of one costs. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { silentLog } from "../../src/core/log.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { seededRandom } from "../../src/core/random.ts";
import { extProcConfigSchema } from "../../src/extproc/config.ts";
import { type ExtProcServer, startExtProcServer } from "../../src/extproc/grpc-ext-proc.ts";
import {
  ENVOY_RECIPES,
  placeEnvoy,
  readEnvoyFile,
  recipeFile,
} from "../../src/lab/file-envoy-recipe.ts";
import { startEnvoy } from "../../src/lab/process-envoy.ts";
import { requireBinary } from "../harness/binaries.ts";
import { HeaderPicker } from "../harness/header-picker.ts";
import { send } from "../harness/http-client.ts";
import { recordingMeter } from "../harness/recording-meter.ts";
import { startUpstream, type TestUpstream } from "../harness/test-upstream.ts";
import { waitUntil } from "../harness/wait-until.ts";

const REQUESTS = 40;
const envoyBinary = await requireBinary("envoy");

describe.skipIf(envoyBinary.isMissing)(`two routers behind Envoy${envoyBinary.note}`, () => {
  const picker = new HeaderPicker();
  let upstream: TestUpstream;

  beforeAll(async () => {
    upstream = await startUpstream();
    picker.endpoints = [upstream.address];
  });
  afterAll(() => upstream?.close());

  function startRouter(): Promise<ExtProcServer> {
    const config = extProcConfigSchema.parse({
      ...{ listen: "127.0.0.1:0", healthListen: "127.0.0.1:0", drainNoticeMs: 0 },
    });
    const ports = { clock: nodeClock, random: seededRandom(1), log: silentLog };
    return startExtProcServer(config, { ...ports, picker, meter: recordingMeter() });
  }

  it.each(ENVOY_RECIPES)("cost one request when one of them is gone, with %s", async (recipe) => {
    const routers = await Promise.all([startRouter(), startRouter()]);
    const places = {
      admin: "127.0.0.1:0",
      listeners: { kvatlas: "127.0.0.1:0" },
      clusters: {
        pool: [upstream.address],
        ext_proc: routers.map(({ address }) => address),
      },
    };
    const envoy = await startEnvoy({
      binary: envoyBinary.path,
      clock: nodeClock,
      config: placeEnvoy(readEnvoyFile(recipeFile(recipe)), places),
    });
    try {
      await waitUntil("both routers to be healthy", async () => {
        const { body } = await send({ address: envoy.adminAddress, path: "/clusters" });
        return body.toString().match(/^ext_proc::[\d.:]+::health_flags::healthy/gm)?.length === 2;
      });
      const ask = () => send({ address: envoy.listenAddress, path: "/echo", body: "{}" });
      for (let sent = 0; sent < REQUESTS; sent += 1) expect((await ask()).status).toBe(200);
      await routers[0]?.stop();
      let failed = 0;
      for (let sent = 0; sent < REQUESTS; sent += 1) if ((await ask()).status !== 200) failed += 1;
      expect(failed).toBeLessThanOrEqual(1);
    } finally {
      await envoy.stop();
      await routers[1]?.stop();
    }
  });
});
