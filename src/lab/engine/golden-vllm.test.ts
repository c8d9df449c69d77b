/**
 * The scenarios that real vLLM schedulers ran, run again here: the same prompts into pools of the
 * same size must give the same events in the same batches. Hashes are renamed one to one, since
 * every engine has its own; token ids of outputs differ as well.
 */
import { readFileSync } from "node:fs";
import { decode } from "@msgpack/msgpack";
import { describe, expect, it } from "vitest";
import type { Clock } from "../../core/clock.ts";
import { BlockChain } from "./block-chain.ts";
import { BlockHasher } from "./block-hash.ts";
import { CacheTiers } from "./cache-tiers.ts";
import { EngineCore } from "./engine-core.ts";
import { LAB_ENGINE_DEFAULTS, type LabEngineOptions } from "./engine-options.ts";
import { EventEncoder } from "./event-encoding.ts";

const GOLDEN = new URL("../../../test/golden/vllm-0.33.0/", import.meta.url);

interface GoldenRequest {
  readonly id: string;
  readonly prompt_token_ids: readonly number[];
  readonly output_token_ids: readonly number[];
  readonly lora?: { readonly name: string; readonly id: number };
  readonly cache_salt?: string;
}

type Event = Readonly<Record<string, unknown>>;

interface Golden {
  readonly num_gpu_blocks: number;
  readonly requests: readonly GoldenRequest[];
  readonly batches: readonly { readonly events: readonly Event[] }[];
}

function readGolden(scenario: string): Golden {
  return JSON.parse(readFileSync(new URL(`${scenario}.expected.json`, GOLDEN), "utf8")) as Golden;
}

/** Runs groups of request ids, each group submitted together; returns the decoded batches. */
function replay(
  golden: Golden,
  groups: readonly (readonly string[])[],
  afterGroup: (core: EngineCore, group: number) => void,
  engine: { readonly options?: Partial<LabEngineOptions>; readonly areHitsReported?: boolean } = {},
): Event[][] {
  const turns: (() => void)[] = [];
  const clock: Clock = { nowMs: () => 0, wallMs: () => 0, after: () => () => {} };
  const options = { ...LAB_ENGINE_DEFAULTS, gpuBlocks: golden.num_gpu_blocks, timeScale: 0 };
  Object.assign(options, engine.options);
  const encoder = new EventEncoder(options, options);
  const hasher = new BlockHasher({ blockSizeTokens: 16, seed: "golden" });
  const batches: Event[][] = [];
  const core = new EngineCore(options, {
    clock,
    nextTurn: (callback) => turns.push(callback),
    tiers: new CacheTiers(options),
    areHitsReported: () => engine.areHitsReported === true,
    publish: (facts) => {
      const batch = decode(encoder.batch(1.5, facts), { useBigInt64: true });
      batches.push((batch as [number, Event[], number])[1]);
    },
  });
  for (const [index, group] of groups.entries()) {
    for (const request of golden.requests.filter(({ id }) => group.includes(id))) {
      const outputTokens = request.output_token_ids.length;
      const chain = new BlockChain(hasher, {
        identity: {
          loraName: request.lora?.name ?? null,
          loraId: request.lora?.id ?? null,
          cacheSalt: request.cache_salt ?? null,
        },
        prompt: Uint32Array.from(request.prompt_token_ids),
        outputTokensMax: outputTokens,
      });
      core.submit({ chain, outputTokens, listener: { finish: () => {} } });
    }
    for (let turn = turns.shift(); turn !== undefined; turn = turns.shift()) turn();
    afterGroup(core, index);
  }
  return batches;
}

/** Numbers hashes in order of appearance and drops fields that stand at their default. */
function renamed(
  batches: readonly (readonly Event[])[],
  options: { readonly areTokensCompared: boolean },
): Event[][] {
  const names = new Map<string, string>();
  const name = (hash: unknown): string => {
    const text = String(hash);
    const known = names.get(text) ?? `h${names.size}`;
    names.set(text, known);
    return known;
  };
  return batches.map((events) =>
    events.map((event) => {
      const parent = event["parent_block_hash"];
      const tokens = event["token_ids"];
      const fields = Object.entries({
        ...event,
        block_hashes: Array.isArray(event["block_hashes"]) ? event["block_hashes"].map(name) : null,
        parent_block_hash: parent === null || parent === undefined ? null : name(parent),
        token_ids: options.areTokensCompared || !Array.isArray(tokens) ? tokens : tokens.length,
      });
      return Object.fromEntries(
        fields.filter(([, value]) => value !== null && value !== undefined),
      );
    }),
  );
}

/** The events as the scenario's payloads carry them. */
function wireBatches(scenario: string): Event[][] {
  const lines = readFileSync(new URL(`${scenario}.jsonl`, GOLDEN), "utf8")
    .trim()
    .split("\n");
  return lines.map((line) => {
    const { payload_hex } = JSON.parse(line) as { payload_hex: string };
    const batch = decode(Buffer.from(payload_hex, "hex"), { useBigInt64: true });
    return (batch as [number, Event[], number])[1];
  });
}

/** vLLM ran an empty step behind each reset with a connector; this engine clears with the next store. */
function clearsJoined(batches: readonly (readonly Event[])[]): Event[][] {
  const joined: Event[][] = [];
  let cleared: readonly Event[] = [];
  for (const events of batches) {
    if (events.every((event) => event["type"] === "AllBlocksCleared")) cleared = events;
    else {
      joined.push([...cleared, ...events]);
      cleared = [];
    }
  }
  return joined;
}

function isTierStore(event: Event): boolean {
  return event["type"] === "BlockStored" && event["medium"] === "CPU";
}

interface Scenario {
  readonly scenario: string;
  readonly groups: readonly (readonly string[])[];
  /** Batches before the first preemption, which this engine does not make. */
  readonly batches?: number;
  /** False where outputs fill blocks. */
  readonly areTokensCompared: boolean;
  readonly isReset?: boolean;
}

const SCENARIOS: readonly Scenario[] = [
  { scenario: "b2_duplicate_blocks", groups: [["d0", "d1"], ["fill"]], areTokensCompared: true },
  {
    scenario: "b_eviction",
    groups: [["r0"], ["r1"], ["r2"], ["r3"], ["r4"], ["r5"], ["big"]],
    batches: 9,
    areTokensCompared: false,
  },
  {
    scenario: "c_reset_prefix_cache",
    groups: [["r0"], ["r1"]],
    areTokensCompared: true,
    isReset: true,
  },
  { scenario: "d_lora", groups: [["base"], ["l1"], ["l2"], ["l1b"]], areTokensCompared: true },
  {
    scenario: "e_cache_salt",
    groups: [["nosalt"], ["saltA"], ["saltA2"], ["saltB"]],
    areTokensCompared: true,
  },
];

describe("events of real vLLM", () => {
  it.each(SCENARIOS)("are repeated block for block: $scenario", (scenario) => {
    const golden = readGolden(scenario.scenario);
    const mine = replay(golden, scenario.groups, (core) => {
      if (scenario.isReset === true) core.pool.reset();
    });
    const expected = golden.batches.slice(0, scenario.batches).map(({ events }) => events);
    expect(renamed(mine, scenario)).toEqual(renamed(expected, scenario));
  });

  it.each(["placeholder", "self_describing"] as const)(
    "are repeated with CPU offloading, fields on the wire included: %s",
    (offloadEvents) => {
      const scenario = `g_offload_cpu.${offloadEvents}`;
      const groups = [["r0"], ["r1"], ["x0"], ["x1"], ["x2"], ["x3"], ["x4"], ["z"], ["z2"]];
      const mine = replay(
        readGolden(scenario),
        groups,
        // After x4 the GPU's cache is reset, after z the connector's too.
        (core, group) => void (group > 5 && core.reset({ areTiersReset: group > 6 })),
        {
          options: {
            offloadWhen: "stored",
            offloadEvents,
            tiers: { cpuBlocks: 48, nvmeBlocks: 0 },
          },
        },
      );
      const comparable = (batches: readonly (readonly Event[])[]): unknown =>
        renamed(clearsJoined(batches), { areTokensCompared: false }).map((events) => [
          ...events.filter((event) => !isTierStore(event)),
          ...events
            .filter(isTierStore)
            .map((event) => JSON.stringify(event))
            .sort(),
        ]);
      const golden = wireBatches(scenario);
      expect(comparable(mine)).toEqual(comparable(golden));
      const keysOf = (batches: readonly (readonly Event[])[]): string[] => [
        ...new Set(batches.flat().map((event) => Object.keys(event).join())),
      ];
      expect(keysOf(mine).sort()).toEqual(keysOf(golden).sort());
    },
  );

  it("are repeated where hits are reported as stores", () => {
    const scenario = "l_kv_cache_report_mode_full";
    const groups = [["r0"], ["r1"]];
    const mine = replay(readGolden(scenario), groups, () => {}, { areHitsReported: true });
    const withSession = mine.map((events) =>
      events.map((event) => ("session_id" in event ? { ...event, session_id: "sess-1" } : event)),
    );
    const options = { areTokensCompared: true };
    expect(renamed(withSession, options)).toEqual(renamed(wireBatches(scenario), options));
    expect(mine[1]?.[0]).toHaveProperty("session_id");
  });

  it("have the same fields on the wire, in the same order", () => {
    const expected = wireBatches("b2_duplicate_blocks").map((events) =>
      events.map((event) => Object.keys(event)),
    );
    const golden = readGolden("b2_duplicate_blocks");
    const mine = replay(golden, [["d0", "d1"], ["fill"]], () => {});
    expect(mine.map((events) => events.map((event) => Object.keys(event)))).toEqual(expected);
  });
});
