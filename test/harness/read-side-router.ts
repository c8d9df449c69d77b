/** The decisions of a router as it is wired, without its edge and its write path. */
import { execFile } from "node:child_process";
import { adminRoutes } from "../../src/app/admin-routes.ts";
import { createReadSide, type ReadSide } from "../../src/app/read-side.ts";
import { configSchema } from "../../src/config/schema.ts";
import { silentLog } from "../../src/core/log.ts";
import { seededRandom } from "../../src/core/random.ts";
import type { PickRequest } from "../../src/extproc/picker.ts";
import type { EndpointSpec } from "../../src/fleet/endpoint.ts";
import { Fleet } from "../../src/fleet/fleet.ts";
import { EvictionBoard } from "../../src/indexer/eviction-board.ts";
import { InflightBlocks } from "../../src/indexer/inflight-blocks.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { HttpAdmin } from "../../src/observe/http-admin.ts";
import type { PromptTokenizer } from "../../src/prompt/prompt-tokenizer.ts";
import { type DecisionRecord, decisionRecord } from "../../src/router/decision-record.ts";
import { JumpClock } from "./jump-clock.ts";
import { MemoryIndex } from "./memory-index.ts";
import { type RecordingMeter, recordingMeter } from "./recording-meter.ts";

export const MODEL = "m";
export interface Router extends ReadSide {
  readonly clock: JumpClock;
  readonly fleet: Fleet;
  readonly residency: Residency;
  readonly meter: RecordingMeter;
}

export async function routerOf(
  specs: readonly EndpointSpec[],
  tokenizer: PromptTokenizer | null = null,
): Promise<Router> {
  const meter = recordingMeter();
  const clock = new JumpClock();
  const ports = { clock, log: silentLog, meter };
  const index = new MemoryIndex();
  const residency = new Residency({ index, entriesMax: 100_000 });
  const inflight = new InflightBlocks();
  const fleet = new Fleet({ ...ports, blocks: inflight });
  fleet.apply(specs);
  const nothingHeard = { factsOf: () => null, heardMsOf: () => null, resync: () => false };
  const events = { ...nothingHeard, reconcile: (): void => {} };
  const readSide = await createReadSide(configSchema.parse({ model: MODEL }), {
    ...{ ...ports, tokenizer, random: seededRandom(1), onDispatch: (): void => {} },
    ...{ evictions: new EvictionBoard(), followed: { fleet, inflight } },
    writeSide: { index, holders: residency, events },
  });
  return { ...readSide, clock, fleet, residency, meter };
}

export const NEVER: AbortSignal = new AbortController().signal;
export const requestOf = (
  requestId: string,
  fields: object,
  headers: Readonly<Record<string, string>> = {},
): PickRequest => ({
  ...{ requestId, method: "POST", path: "/v1/completions", subset: null },
  headers: new Map(Object.entries(headers)),
  body: Buffer.from(JSON.stringify({ model: MODEL, ...fields })),
});

export function recordOf({ decisions }: Router, id: string): DecisionRecord | null {
  const kept = decisions.find(id);
  return kept === null ? null : decisionRecord(kept);
}

/** `kvatlas why` as a user runs it, against the router's admin routes. */
export async function why(router: Router, id: string, form: "table" | "json"): Promise<string> {
  const admin = new HttpAdmin({
    ...{ log: silentLog, readyChecks: () => [] },
    metrics: () => Promise.resolve({ contentType: "text/plain", body: "" }),
    routes: adminRoutes({ ...router, pods: router.pods.report }),
  });
  const url = `http://${await admin.start("127.0.0.1:0")}`;
  const main = new URL("../../src/cli/main.ts", import.meta.url).pathname;
  const args = [main, "why", id, "--url", url, "--output", form];
  const text = await new Promise<string>((resolve) =>
    execFile(process.execPath, args, (_, stdout, stderr) => resolve(stdout + stderr)),
  );
  await admin.stop();
  return text;
}
