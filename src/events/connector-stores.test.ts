/** Stores that no removal follows, from a connector's payloads to what the index has of them. */
import { beforeAll, describe, expect, it } from "vitest";
import { msgpackPayload } from "../../test/harness/event-samples.ts";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import type { EngineName } from "../core/engine-name.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { HotIndex } from "../indexer/hot-index.ts";
import { Residency } from "../indexer/residency.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { Applier } from "./applier.ts";
import { createEventDecoder } from "./event-decoder.ts";
import { HolderRelay } from "./holder-relay.ts";
import type { KeyedBatch } from "./keyed-batch.ts";

const LIFE_MS = 10_000;
const CHUNK = 32;
const BLOCK = 4;
const holder: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const ids = (count: number, from = 0): number[] =>
  Array.from({ length: count }, (_, at) => from + at);

let hasher: BlockHasher;
beforeAll(async () => {
  hasher = await createBlockHasher(7);
});

class Stream {
  readonly index = new HotIndex();
  readonly residency = new Residency({ index: this.index, entriesMax: 10_000 });
  readonly relay: HolderRelay;
  readonly batches: KeyedBatch[] = [];
  readonly #decoder: ReturnType<typeof createEventDecoder>;
  readonly #applier: Applier;
  #seq = 0;

  constructor(engine: EngineName) {
    const isConnector = engine !== "vllm";
    const deps = { holder, model: "m", hasher, canReplay: false, hintLifeMs: LIFE_MS };
    this.relay = new HolderRelay({ ...deps, isConnector });
    this.#decoder = createEventDecoder(engine);
    const ports = { clock: nodeClock, log: silentLog, meter: recordingMeter() };
    this.#applier = new Applier({ residency: this.residency, ...ports });
  }

  /** One message at so many seconds. */
  say(seconds: number, ...events: object[]): void {
    const decoded = this.#decoder.decode(msgpackPayload([seconds, events, 0]));
    const batch = decoded.ok ? decoded.value : null;
    this.#take(this.relay.live({ seq: this.#seq, batch }).batches);
    this.#seq += 1;
  }

  /** Nothing is said for so long. */
  silence(seconds: number): void {
    this.#take(this.relay.elapsed(1000 * seconds).batches);
  }

  /** Nothing is said for so long, and what the relay says of that is lost. */
  lose(seconds: number): void {
    this.relay.elapsed(1000 * seconds);
  }

  #take(batches: readonly KeyedBatch[]): void {
    this.batches.push(...batches);
    for (const batch of batches) this.#applier.accept(batch);
  }

  get state(): unknown {
    const { state, reason } = this.residency.cursorOf(holder) ?? expect.fail();
    return [state, reason];
  }

  /** Tokens of a prompt in the CPU tier, as blocks of a size. */
  cpuTokens(tokens: readonly number[], blockSizeTokens: number): number {
    const parent = hasher.rootKey({ model: "m", lora: null, blockSizeTokens });
    const query = { parent, tokens: Uint32Array.from(tokens), blockSizeTokens };
    const [match] = this.index.match(hasher.chainKeys(query));
    return (match?.blocksByTier.cpu ?? 0) * blockSizeTokens;
  }

  get cpuEntries(): number {
    return this.index.stats().entriesByTier.cpu;
  }
}

const stored = (hashes: number[], tokens: number[], size: number, more: object = {}): object => ({
  type: "BlockStored",
  ...{ block_hashes: hashes, parent_block_hash: null, token_ids: tokens, block_size: size },
  ...{ lora_id: null, medium: "GPU", lora_name: null, ...more },
});
const cpu = { medium: "cpu" };
const chunk = (hash: number, from = 0, more: object = {}): object =>
  stored([hash], ids(CHUNK, from), CHUNK, { ...cpu, ...more });
const own = stored(ids(8, 1), ids(CHUNK), BLOCK);
const second = chunk(902, CHUNK, { parent_block_hash: 901 });

describe("LMCache's chunks", () => {
  it.each(["vllm", "lmcache"] as const)("in a stream of %s are believed for a life", (engine) => {
    const stream = new Stream(engine);
    stream.say(1, own);
    expect(stream.state).toEqual(["EXACT", null]);
    stream.say(2, chunk(901), second);
    expect(stream.state).toEqual(["DEGRADED", "no-removals"]);
    expect(stream.residency.blockSizes()).toEqual(new Set([BLOCK, CHUNK]));
    expect(stream.cpuTokens(ids(2 * CHUNK), CHUNK)).toBe(2 * CHUNK);
    // Said again it is no second copy, and lives on.
    stream.say(7, chunk(901));
    expect(stream.cpuEntries).toBe(2);
    stream.say(12);
    expect(stream.cpuTokens(ids(2 * CHUNK), CHUNK)).toBe(CHUNK);
    stream.say(17);
    expect(stream.cpuEntries).toBe(0);
    expect(stream.index.stats().entriesByTier.gpu).toBe(8);
    expect(stream.state).toEqual(["DEGRADED", "no-removals"]);
  });

  it("end while the engine is silent, once and with nothing else", () => {
    const stream = new Stream("vllm");
    stream.say(1, own, chunk(901));
    stream.silence(9);
    expect(stream.cpuEntries).toBe(1);
    stream.silence(10);
    expect(stream.cpuEntries).toBe(0);
    const said = stream.batches.length;
    stream.silence(30);
    expect(stream.batches).toHaveLength(said);
    stream.say(40, chunk(901));
    expect(stream.cpuEntries).toBe(1);
  });

  it("end with the next message as well, where what was said aside is lost", () => {
    const stream = new Stream("vllm");
    stream.say(1, own, chunk(901), second);
    stream.lose(20);
    expect(stream.cpuEntries).toBe(2);
    stream.say(21, chunk(901));
    expect(stream.cpuEntries).toBe(1);
    expect(stream.cpuTokens(ids(2 * CHUNK), CHUNK)).toBe(CHUNK);
    stream.say(22);
    expect(stream.cpuEntries).toBe(1);
  });

  it("that a prompt does not fill are left out", () => {
    const stream = new Stream("lmcache");
    stream.say(1, chunk(901));
    stream.say(2, stored([902], ids(5, CHUNK), 5, { ...cpu, parent_block_hash: 901 }));
    stream.say(3, stored([903], ids(5, CHUNK), CHUNK, { ...cpu, parent_block_hash: 901 }));
    expect(stream.cpuEntries).toBe(1);
    expect(stream.residency.blockSizes()).toEqual(new Set([CHUNK]));
  });

  it.each([
    ["an adapter", { lora_name: "a" }],
    ["a salt", { extra_keys: [["salt"]] }],
  ])("are not routed on once %s shows that tokens alone make no key", (_, more) => {
    const stream = new Stream("vllm");
    stream.say(1, own, chunk(901));
    stream.say(2, stored([99], ids(BLOCK, 500), BLOCK, more));
    expect(stream.cpuEntries).toBe(0);
    stream.say(3, chunk(901));
    expect(stream.cpuEntries).toBe(0);
    expect(stream.state).toMatchObject(["DEGRADED", expect.any(String)]);
  });

  it("go with a removal, a clearing and the engine's life", () => {
    const stream = new Stream("lmcache");
    stream.say(1, chunk(901), second);
    stream.say(2, { type: "BlockRemoved", block_hashes: [902], medium: "cpu" });
    expect(stream.cpuTokens(ids(2 * CHUNK), CHUNK)).toBe(CHUNK);
    stream.say(3, { type: "AllBlocksCleared" });
    expect(stream.cpuEntries).toBe(0);
    const said = stream.batches.length;
    stream.silence(60);
    expect(stream.batches).toHaveLength(said);
  });
});

describe("Mooncake's blocks", () => {
  it("are placed by their handles where these are known, under the key with its salt", () => {
    const stream = new Stream("mooncake");
    stream.say(1, stored([1, 2], ids(8), BLOCK, { extra_keys: [["salt"], null], group_idx: 0 }));
    stream.say(2, stored([1], [], BLOCK, { ...cpu, group_idx: 0 }), stored([77], [], BLOCK, cpu));
    expect(stream.cpuEntries).toBe(1);
    expect(stream.cpuTokens(ids(8), BLOCK)).toBe(0);
    stream.say(20);
    expect(stream.cpuEntries).toBe(0);
  });
});

describe("a store with the medium cpu in vLLM's own stream", () => {
  it("is its own where its blocks are the engine's: its removals come", () => {
    const stream = new Stream("vllm");
    stream.say(1, own, stored(ids(8, 1), [], 0, cpu));
    expect(stream.cpuTokens(ids(CHUNK), BLOCK)).toBe(0);
    stream.say(2, { type: "BlockRemoved", block_hashes: ids(8, 1), medium: "GPU" });
    expect(stream.cpuTokens(ids(CHUNK), BLOCK)).toBe(CHUNK);
    stream.say(1000);
    stream.silence(1000);
    expect(stream.state).toEqual(["EXACT", null]);
    expect(stream.cpuTokens(ids(CHUNK), BLOCK)).toBe(CHUNK);
    stream.say(1001, { type: "BlockRemoved", block_hashes: ids(8, 1), medium: "cpu" });
    expect(stream.cpuEntries).toBe(0);
  });
});

it("a connector's stores are said again behind stores that waited", () => {
  const stream = new Stream("vllm");
  stream.say(1, own, chunk(901));
  stream.say(2, stored([52], ids(BLOCK), BLOCK, { parent_block_hash: 51 }));
  expect(stream.state).toEqual(["DEGRADED", "unknown-parent"]);
  stream.say(3, stored([51], ids(BLOCK, 500), BLOCK));
  expect(stream.state).toEqual(["DEGRADED", "no-removals"]);
});

describe("another relay", () => {
  it("ends what an earlier one was told by a connector, because its age is not known", () => {
    const stream = new Stream("vllm");
    stream.say(1, own, chunk(901));
    const deps = { holder, model: "m", hasher, canReplay: false, hintLifeMs: LIFE_MS };
    const next = new HolderRelay(deps);
    for (const batch of stream.batches) next.adopt(batch);
    const [batch] = next.elapsed(0).batches;
    expect(batch).toMatchObject({ seq: 0, epoch: 1 });
    expect(batch?.events).toMatchObject([
      { type: "aside" },
      { type: "removed", tier: "cpu", handles: BigUint64Array.of(901n) },
    ]);
  });

  it("knows that tokens alone make no key", () => {
    const stream = new Stream("vllm");
    stream.say(1, own, stored([99], ids(BLOCK, 500), BLOCK, { extra_keys: [["salt"]] }));
    const deps = { holder, model: "m", hasher, canReplay: false, hintLifeMs: LIFE_MS };
    const restored = new HolderRelay(deps);
    restored.restoreCursor(stream.residency.cursorOf(holder) ?? expect.fail());
    const adopting = new HolderRelay(deps);
    for (const batch of stream.batches) adopting.adopt(batch);
    const decoded = createEventDecoder("vllm").decode(msgpackPayload([2, [chunk(901)], 0]));
    const batch = decoded.ok ? decoded.value : null;
    for (const next of [restored, adopting]) {
      const { events } = next.live({ seq: 1, batch }).batches[0] ?? expect.fail();
      expect(events.filter(({ type }) => type === "stored")).toEqual([]);
    }
  });

  it("takes a chunk for a connector's before it has heard of the engine's own blocks", () => {
    const stream = new Stream("vllm");
    stream.say(1, own);
    const deps = { holder, model: "m", hasher, canReplay: false, hintLifeMs: LIFE_MS };
    const next = new HolderRelay(deps);
    next.restoreCursor(stream.residency.cursorOf(holder) ?? expect.fail());
    const decoded = createEventDecoder("vllm").decode(msgpackPayload([2, [chunk(901)], 0]));
    const { batches } = next.live({ seq: 1, batch: decoded.ok ? decoded.value : null });
    expect(batches[0]?.events).toContainEqual({ type: "lost", reason: "no-removals" });
    expect(next.hintLifeMs).toBe(LIFE_MS);
  });
});
