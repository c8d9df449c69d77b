/** A router as a process of its own, for the rows of the edge: 64 endpoints, four of which send events. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startRouter } from "../src/app/serve.ts";
import { configSchema } from "../src/config/schema.ts";
import { silentLog } from "../src/core/log.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { seededRandom } from "../src/core/random.ts";

const ENDPOINTS = 64;

/** Addresses of the engines that send events. */
const feeds: readonly string[] = JSON.parse(process.argv[2] ?? "[]");
const folder = mkdtempSync(join(tmpdir(), "kvatlas-edge-"));
const endpointsFile = join(folder, "endpoints.yaml");
const endpoints = Array.from({ length: ENDPOINTS }, (_, n) => {
  const address = feeds[n];
  const place = { name: `pod-${n}`, address: `10.0.0.${n}:8000`, metrics: "off" };
  return address === undefined ? place : { ...place, kvEvents: { address } };
});
// JSON is YAML.
writeFileSync(endpointsFile, JSON.stringify({ endpoints }));
const any = "127.0.0.1:0";
const config = configSchema.parse({
  model: "bench",
  fleet: { endpointsFile },
  index: { path: join(folder, "store") },
  extProc: { listen: any, healthListen: any, drainMs: 0, drainNoticeMs: 0 },
  query: { listen: null },
  observe: { adminListen: any, logLevel: "error" },
});
const ports = { clock: nodeClock, random: seededRandom(1), log: silentLog };
const router = await startRouter(config, { ...ports, version: "bench" });
process.send?.({ edge: router.extProcAddress, admin: router.adminAddress });
process.once("disconnect", () => {
  void router.abandon().finally(() => {
    rmSync(folder, { recursive: true, force: true });
    process.exit(0);
  });
});
