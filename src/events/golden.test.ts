/** Golden captures through decoder, relay, applier and index, against the brute-force truth. */
import { beforeAll, describe, expect, it } from "vitest";
import { type GoldenCapture, goldenNames, loadCapture } from "../../test/harness/golden.ts";
import {
  chainOf,
  type Holdings,
  holdingsOf,
  type KeysByDefinition,
  keyOfHandle,
  keysByDefinition,
} from "../../test/harness/golden-holdings.ts";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { type RecordingMeter, recordingMeter } from "../../test/harness/recording-meter.ts";
import { blockKey, endpointId, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { type HolderCursor, Residency } from "../indexer/residency.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { Applier } from "./applier.ts";
import { HolderRelay } from "./holder-relay.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";

const SEED = 7;
const MODEL = "model";
const endpoint = endpointId("10.0.0.1:8000");
const holder: Holder = { endpointId: endpoint, rank: 0 };

let hasher: BlockHasher;
let keysOf: KeysByDefinition;

beforeAll(async () => {
  hasher = await createBlockHasher(SEED);
  keysOf = await keysByDefinition(SEED);
});

interface Played {
  readonly index: MemoryIndex;
  readonly residency: Residency;
  readonly batches: readonly KeyedBatch[];
  readonly cursor: HolderCursor | null;
  readonly meter: RecordingMeter;
}

function play(capture: GoldenCapture, messagesMax = capture.messages.length): Played {
  const index = new MemoryIndex();
  const residency = new Residency({ index, entriesMax: 100_000 });
  const meter = recordingMeter();
  const applier = new Applier({ residency, clock: nodeClock, log: silentLog, meter });
  const relay = new HolderRelay({ holder, model: MODEL, hasher, canReplay: false });
  const batches: KeyedBatch[] = [];
  for (const { seq, payload } of capture.messages.slice(0, messagesMax)) {
    const decoded = decodeVllmBatch(payload);
    const step = relay.live({ seq, batch: decoded.ok ? decoded.value : null });
    batches.push(...step.batches);
    for (const batch of step.batches) applier.accept(batch);
  }
  return { index, residency, batches, meter, cursor: residency.cursorOf(holder) };
}

/** Tiers in which the index has a key, once for each handle that stands for it. */
function expectedTiers(keys: ReadonlyMap<bigint, bigint>, held: Holdings, key: bigint): string[] {
  const handles = [...keys].flatMap(([handle, other]) => (other === key ? [handle] : []));
  return handles
    .flatMap((handle) => (["gpu", "cpu"] as const).filter((tier) => held[tier].has(handle)))
    .sort();
}

function expectIndexToHold(index: MemoryIndex, capture: GoldenCapture, held: Holdings): void {
  const keys = keyOfHandle(capture, MODEL, keysOf);
  for (const handle of [...held.gpu.keys(), ...held.cpu.keys()]) {
    expect(keys.has(handle), `handle ${handle} belongs to a request`).toBe(true);
  }
  for (const key of keys.values()) {
    const tiers = index.residency(blockKey(key)).map(({ tier }) => tier);
    expect(tiers.sort()).toEqual(expectedTiers(keys, held, key));
  }
  const { blocks, entriesByTier } = index.stats();
  expect(entriesByTier).toMatchObject({ gpu: held.gpu.size, cpu: held.cpu.size });
  const heldKeys = [...held.gpu.keys(), ...held.cpu.keys()].map((handle) => keys.get(handle));
  expect(blocks).toBe(new Set(heldKeys).size);
  for (const request of capture.expected.requests) {
    const chain = keysOf(chainOf(request, capture, MODEL));
    const gap = chain.findIndex((key) => expectedTiers(keys, held, key).length === 0);
    const blocksHeld = gap === -1 ? chain.length : gap;
    const [match] = index.match(BigUint64Array.from(chain));
    expect(match?.blocks ?? 0, `request ${request.id}`).toBe(blocksHeld);
  }
}

describe("golden captures", () => {
  const told = goldenNames("vllm").filter((name) => name !== "vllm-0.11.2/e_cache_salt");

  it.each(told)("%s leaves in the index what the engine holds", (name) => {
    const capture = loadCapture(name);
    const held = holdingsOf(capture);
    const { index, cursor, batches } = play(capture);
    expectIndexToHold(index, capture, held);
    expect(batches).toHaveLength(capture.messages.length);
    expect(cursor).toMatchObject({ seq: capture.messages.at(-1)?.seq, model: MODEL });
    expect(cursor?.blockSizesTokens).toEqual([capture.expected.block_size]);
    if (!name.endsWith("/k_gaps")) {
      const events = capture.expected.batches.flatMap((batch) => batch.events);
      const cpu = events.findIndex(({ medium }) => medium === "CPU");
      const cleared = events.findLastIndex(({ type }) => type === "AllBlocksCleared");
      const exact = { state: "EXACT", reason: null };
      const isUnclear = cpu !== -1 && cleared > cpu;
      expect(cursor).toMatchObject(isUnclear ? { reason: "lower-tiers" } : exact);
      expect(held.blocksLost).toBe(0);
    }
  });

  it("agree after every message, not only at the end", () => {
    for (const scenario of ["b2_duplicate_blocks", "g_offload_cpu.placeholder", "b_eviction"]) {
      const capture = loadCapture(`vllm-0.33.0/${scenario}`);
      for (let messages = 1; messages <= capture.messages.length; messages += 1) {
        const batches = capture.expected.batches.slice(0, messages);
        const soFar = { ...capture, expected: { ...capture.expected, batches } };
        expectIndexToHold(play(capture, messages).index, soFar, holdingsOf(soFar));
      }
    }
  });
});

describe("double stores (b2)", () => {
  it("keep a block until the second removal", () => {
    const capture = loadCapture("vllm-0.33.0/b2_duplicate_blocks");
    const { residency } = play(capture, 1);
    const copies = [...residency.records(holder)].map(([, record]) => record.copies[0]);
    expect(copies).toContain(2);
    const twice = [...residency.records(holder)].find(([, record]) => record.copies[0] === 2);
    const handles = BigUint64Array.of(twice?.[0] ?? 0n);
    expect(residency.removed(holder, "gpu", handles)).toBe(0);
    expect([...residency.records(holder)].map(([handle]) => handle)).toContain(twice?.[0]);
    expect(residency.removed(holder, "gpu", handles)).toBe(0);
    expect(residency.removed(holder, "gpu", handles)).toBe(1);
  });
});

describe("a restart (k2)", () => {
  it("drops everything of the former life and starts an exact one", () => {
    const capture = loadCapture("vllm-0.33.0/k2_publisher_restart");
    const { index, cursor, meter, batches } = play(capture);
    expect(batches.map(({ epoch, seq }) => [epoch, seq])).toEqual([
      [1, 0],
      [1, 1],
      [1, 2],
      [2, 0],
      [2, 1],
    ]);
    const isHeld = capture.expected.requests.map((request) => {
      const chain = keysOf(chainOf(request, capture, MODEL));
      return index.match(BigUint64Array.from(chain)).length === 1;
    });
    expect(isHeld).toEqual([false, false, false, true, true]);
    expect(cursor).toMatchObject({ epoch: 2, seq: 1, state: "EXACT" });
    expect(meter.total("kvatlas_events_restarts_total", { endpoint })).toBe(1);
  });
});

describe("gaps (k_gaps)", () => {
  it("degrade the holder and are counted with the messages they miss", () => {
    for (const version of ["vllm-0.11.2", "vllm-0.33.0"]) {
      const capture = loadCapture(`${version}/k_gaps`);
      const { cursor, meter } = play(capture);
      const dropped = capture.expected.dropped_frames?.map(({ seq }) => seq) ?? [];
      const jumps = dropped.filter((seq) => !dropped.includes(seq - 1));
      expect(cursor?.state).toBe("DEGRADED");
      expect(meter.total("kvatlas_events_gaps_total", { endpoint })).toBe(jumps.length);
      expect(meter.total("kvatlas_events_missed_messages_total", { endpoint })).toBe(
        dropped.length,
      );
    }
  });

  it("are the reason while nothing else was lost", () => {
    const capture = loadCapture("vllm-0.33.0/k_gaps");
    const { batches, cursor } = play(capture, 3);
    expect(batches[2]?.seq).toBe(4);
    const isLost = batches[2]?.events.some(({ type }) => type === "lost");
    expect(cursor).toMatchObject({
      state: "DEGRADED",
      reason: isLost ? "unknown-parent" : "gap",
    });
  });
});

describe("offload (g)", () => {
  it.each(["placeholder", "self_describing"])("%s: finds CPU copies by handle", (form) => {
    const capture = loadCapture(`vllm-0.33.0/g_offload_cpu.${form}`);
    const cpuBlocks = capture.messages.map((_, at) => play(capture, at + 1).index.stats());
    expect(Math.max(...cpuBlocks.map(({ entriesByTier }) => entriesByTier.cpu))).toBeGreaterThan(8);
    const stored = play(capture).batches.flatMap(({ events }) => events);
    expect(stored.filter(({ type }) => type === "lost")).toEqual([]);
  });
});

describe("namespaces", () => {
  it("of adapters, salts and images never meet the plain keys of the same tokens", () => {
    for (const scenario of ["d_lora", "e_cache_salt", "f_multimodal"]) {
      const capture = loadCapture(`vllm-0.33.0/${scenario}`);
      const { index } = play(capture);
      const plainRequests = capture.expected.requests.filter(
        ({ lora, cache_salt, mm }) => !lora && !cache_salt && !mm,
      );
      for (const { prompt_token_ids: tokens } of capture.expected.requests) {
        const plain = keysOf({ model: MODEL, lora: null, blockSizeTokens: 16, tokens });
        const [match] = index.match(BigUint64Array.from(plain));
        expect(match?.blocks ?? 0).toBe(plainRequests.length === 0 ? 0 : 4);
        for (const key of plain) expect(index.residency(blockKey(key)).length).toBeLessThan(2);
      }
    }
  });

  it("that the wire does not tell show in two hashes for one key, and are not routed on", () => {
    const capture = loadCapture("vllm-0.11.2/e_cache_salt");
    const { index, residency, meter } = play(capture);
    expect(residency.blocksOf(holder)).toBe(holdingsOf(capture).gpu.size);
    for (const { prompt_token_ids: tokens } of capture.expected.requests) {
      const keys = keysOf({ model: MODEL, lora: null, blockSizeTokens: 16, tokens });
      expect(index.match(BigUint64Array.from(keys))).toEqual([]);
    }
    const reason = "ambiguous-key";
    expect(meter.total("kvatlas_events_refused_total", { reason })).toBeGreaterThan(0);
  });

  it("of ignored groups leave no block: a sliding window alone makes no prefix", () => {
    const capture = loadCapture("vllm-0.33.0/i_hybrid_full_plus_sliding");
    const stored = capture.expected.batches
      .flatMap(({ events }) => events)
      .filter(({ type, group_idx }) => type === "BlockStored" && group_idx === 0)
      .reduce((blocks, { block_hashes }) => blocks + (block_hashes?.length ?? 0), 0);
    expect(play(capture).meter.total("kvatlas_events_blocks_total", { kind: "stored" })).toBe(
      stored,
    );
  });
});
