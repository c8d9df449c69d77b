import { expect, it } from "vitest";
import { fleetViewOf, viewOf } from "../../test/harness/fleet-values.ts";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { endpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import { Audit } from "../fleet/audit.ts";
import { Fleet } from "../fleet/fleet.ts";
import { EvictionBoard } from "../indexer/eviction-board.ts";
import { InflightBlocks } from "../indexer/inflight-blocks.ts";
import { Residency } from "../indexer/residency.ts";
import { engineRules } from "../prompt/engine-rules.ts";
import { ParityWatch } from "./parity-watch.ts";
import { createPods } from "./pods.ts";
import { podsReport } from "./pods-report.ts";

it("tells of each rank how well it is known, and of an endpoint without events that it is approximated", () => {
  const residency = new Residency({ index: new MemoryIndex(), entriesMax: 100 });
  const id = endpointId("10.0.0.1:8000");
  const holder = { endpointId: id, rank: 1 };
  const words = BigUint64Array.from([1n, 2n]);
  residency.stored(holder, "gpu", words, words);
  residency.setCursor(holder, {
    ...{ state: "DEGRADED", reason: "gap", epoch: 2, seq: 9, engineMs: 5, blockSizesTokens: [16] },
    ...{ model: "m", ignoredGroups: [] },
  });
  const address = "tcp://10.0.0.1:5557";
  const kvEvents = { engine: "vllm", address, ranks: 2, replay: null, topic: "" } as const;
  const signals = {
    atMs: 400,
    value: { waiting: 0, running: 0, kvUsage: 0, blockSizeTokens: null, gpuBlocks: null },
  };
  const other = endpointId("10.0.0.2:8000");
  const endpoints = [
    viewOf(id, { spec: { name: "pod-1", kvEvents }, signals }),
    viewOf(other, { spec: { name: "pod-2", role: "decode" } }),
  ];
  const ports = { clock: nodeClock, log: silentLog, meter: silentMeter };
  const fleet = new Fleet({ ...ports, blocks: new InflightBlocks() });
  const rules = engineRules({ engine: "vllm", engineVersion: "0.33.0" });
  const parity = new ParityWatch({ ...ports, fleet, model: "m", tokenizer: null, rules });
  const pods = createPods({
    ...{ ...ports, holders: residency, fleet, parity, assumedLifeMs: 1000 },
    evictions: new EvictionBoard(),
    events: { heardMsOf: () => null, factsOf: () => null, resync: () => false },
  });
  const audit = { state: "pending", overRatio: 0, underRatio: 0, samples: 0, resyncs: 0 };
  const pending = { state: "pending", cause: null, detail: "not compared yet" };
  const rest = { assumedBlocks: 0, audit, parity: pending, findings: [] };
  const notHeard = { state: "FALLBACK", reason: "not-heard" };
  const silent = { ...notHeard, epoch: null, seq: null, blocks: 0 };
  const noSource = { state: "FALLBACK", reason: "no-event-source" };
  const deps = { ...pods, parity, holders: residency, audit: new Audit({ onOutcome: () => {} }) };
  expect(podsReport(fleetViewOf(1000, endpoints), deps)).toEqual([
    {
      ...{
        name: "pod-1",
        endpoint: id,
        role: "both",
        ready: "ready",
        requests: 0,
        signalAgeMs: 600,
      },
      ...{ ...notHeard, ...rest },
      ranks: [
        { rank: 0, ...silent, blockSizeTokens: null },
        {
          ...{ rank: 1, state: "DEGRADED", reason: "gap", epoch: 2, seq: 9, blocks: 2 },
          blockSizeTokens: 16,
        },
      ],
    },
    {
      ...{
        name: "pod-2",
        endpoint: other,
        role: "decode",
        ready: "ready",
        requests: 0,
        signalAgeMs: null,
      },
      ...{ ...noSource, ...rest },
      ranks: [{ rank: 0, ...noSource, epoch: null, seq: null, blocks: 0, blockSizeTokens: null }],
    },
  ]);
});
