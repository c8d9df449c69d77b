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
import { EngineCore } from "./engine-core.ts";
import { LAB_ENGINE_DEFAULTS } from "./engine-options.ts";
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
  afterGroup: (core: EngineCore) => void,
): Event[][] {
  const turns: (() => void)[] = [];
  const clock: Clock = { nowMs: () => 0, wallMs: () => 0, after: () => () => {} };
  const encoder = new EventEncoder({ encoding: "map", hashForm: "u64", dataParallelRank: 0 });
  const hasher = new BlockHasher({ blockSizeTokens: 16, seed: "golden" });
  const batches: Event[][] = [];
  const core = new EngineCore(
    { ...LAB_ENGINE_DEFAULTS, gpuBlocks: golden.num_gpu_blocks, timeScale: 0 },
    {
      clock,
      nextTurn: (callback) => turns.push(callback),
      publish: (facts) => {
        const batch = decode(encoder.batch(1.5, facts), { useBigInt64: true });
        batches.push((batch as [number, Event[], number])[1]);
      },
    },
  );
  for (const group of groups) {
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
    afterGroup(core);
  }
  return batches;
}

/** Numbers hashes in order of appearance and drops fields that stand at their default. */
function renamed(
  batches: readonly (readonly Event[])[],
  options: { readonly areTokensCompared: boolean },
): unknown {
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

  it("have the same fields on the wire, in the same order", () => {
    const lines = readFileSync(new URL("b2_duplicate_blocks.jsonl", GOLDEN), "utf8");
    const payloads = lines
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { payload_hex: string }).payload_hex);
    const expected = payloads.map((hex) => {
      const batch = decode(Buffer.from(hex, "hex"), { useBigInt64: true });
      return (batch as [number, Event[], number])[1].map((event) => Object.keys(event));
    });
    const golden = readGolden("b2_duplicate_blocks");
    const mine = replay(golden, [["d0", "d1"], ["fill"]], () => {});
    expect(mine.map((events) => events.map((event) => Object.keys(event)))).toEqual(expected);
  });
});
