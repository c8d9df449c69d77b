/** Random histories of an engine through relay, log codec, applier and index, against counting. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { type KeysByDefinition, keysByDefinition } from "../../test/harness/golden-holdings.ts";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { blockKey, endpointId, engineKey, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import { Residency } from "../indexer/residency.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { Applier } from "./applier.ts";
import { HolderRelay } from "./holder-relay.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import { decodeKeyedBatches, encodeKeyedBatches } from "./keyed-batch-codec.ts";
import type { KvEvent } from "./kv-event.ts";
import { restoreRelay } from "./restore-relay.ts";

const SEED = 3;
const MODEL = "model";
const holder: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
/** Twelve blocks of two tokens in a tree: the parent of each, -1 for none. */
const PARENTS = [-1, -1, 0, 0, 1, 2, 2, 3, 4, 5, 7, 9];

let hasher: BlockHasher;
let keysOf: KeysByDefinition;

beforeAll(async () => {
  hasher = await createBlockHasher(SEED);
  keysOf = await keysByDefinition(SEED);
});

const parentOf = (block: number): number => PARENTS[block] ?? -1;
const pathTo = (block: number): number[] =>
  block === -1 ? [] : [...pathTo(parentOf(block)), block];
const tokensOf = (blocks: readonly number[]): number[] =>
  blocks.flatMap((block) => [block, block + 1000]);
/** Spread over 64 bits, as hashes are. */
const handleOf = (block: number): ReturnType<typeof engineKey> =>
  engineKey(BigInt(block + 1) * 0x9e37_79b9_7f4a_7c15n);

type Step =
  /** Stores the last `length` blocks of the path to a block. */
  | { readonly do: "store"; readonly block: number; readonly length: number }
  /** Stores a block in the CPU tier by its handle alone. */
  | { readonly do: "offload"; readonly block: number }
  | Removal
  | { readonly do: "clear" };
interface Removal {
  readonly do: "remove";
  readonly tier: "gpu" | "cpu";
  readonly block: number;
}

function eventOf(step: Step): KvEvent {
  if (step.do === "clear") return { type: "cleared" };
  if (step.do === "remove") {
    const handles = BigUint64Array.of(handleOf(step.block));
    return { type: "removed", handles, medium: step.tier.toUpperCase(), group: null };
  }
  const blocks = step.do === "store" ? pathTo(step.block).slice(-step.length) : [step.block];
  const before = parentOf(blocks[0] ?? 0);
  const isTold = step.do === "store";
  return {
    type: "stored",
    handles: BigUint64Array.from(blocks, handleOf),
    parent: isTold && before !== -1 ? handleOf(before) : null,
    tokens: Uint32Array.from(isTold ? tokensOf(blocks) : []),
    blockSizeTokens: isTold ? 2 : 0,
    medium: isTold ? "GPU" : "CPU",
    ...{ loraName: null, loraId: null, extraKeys: null, group: null, specKind: null },
  };
}

/** A store that waits for its parent, with what was removed of it. */
interface Waiting {
  readonly before: number;
  readonly blocks: number[];
  readonly removals: Removal[];
}

function remainingOf({ blocks, removals }: Waiting): number[] {
  return blocks.filter((each) => !removals.some(({ block: gone }) => gone === each));
}

/** What must be held, by counting. */
class Model {
  readonly gpu = new Map<number, number>();
  readonly cpu = new Map<number, number>();
  /** Blocks that the relay can place, held or lately removed. */
  readonly known = new Set<number>();
  /** Blocks placed since the engine began: what the log tells. */
  readonly told = new Set<number>();
  waiting: Waiting[] = [];
  /** Some waited in a relay that is gone. */
  areSomeLost = false;
  hasSeenCpu = false;
  isExact = true;

  get isWaiting(): boolean {
    return this.areSomeLost || this.waiting.some((each) => remainingOf(each).length > 0);
  }

  loseWaiting(): void {
    this.areSomeLost = this.isWaiting;
    this.waiting = [];
  }

  drop(): void {
    this.clear();
    for (const table of [this.known, this.told]) table.clear();
  }

  /** No block is held; what each one is remains known. */
  clear(): void {
    for (const table of [this.gpu, this.cpu]) table.clear();
    this.waiting = [];
    this.areSomeLost = false;
    this.hasSeenCpu = false;
  }

  /** A relay that starts from the store knows what is held and nothing else. */
  forgetRemoved(): void {
    for (const block of this.known) {
      if (!this.gpu.get(block) && !this.cpu.get(block)) this.known.delete(block);
    }
  }

  /** A relay that starts from the log knows all that it tells, also what was removed. */
  readLog(): void {
    for (const block of this.told) this.known.add(block);
  }

  apply(step: Step): void {
    if (step.do === "clear" && this.hasSeenCpu) this.isExact = false;
    if (step.do === "clear") this.clear();
    if (step.do === "remove") {
      const orphan = this.waiting.find(
        (each) => step.tier === "gpu" && remainingOf(each).includes(step.block),
      );
      const isPlaced = (this[step.tier].get(step.block) ?? 0) > 0;
      if (!isPlaced && orphan !== undefined) this.#removeWaiting(orphan, step);
      else this.#add(step.tier, step.block, -1);
    }
    if (step.do !== "store" && step.do !== "offload") return;
    const blocks = step.do === "store" ? pathTo(step.block).slice(-step.length) : [step.block];
    const before = parentOf(blocks[0] ?? 0);
    const isPlaced =
      step.do === "store" ? before === -1 || this.known.has(before) : this.known.has(step.block);
    if (!isPlaced && step.do === "offload") this.isExact = false;
    if (!isPlaced && step.do === "store") this.waiting.push({ before, blocks, removals: [] });
    if (isPlaced) this.#place(step.do === "store" ? "gpu" : "cpu", blocks);
  }

  #removeWaiting(orphan: Waiting, step: Removal): void {
    orphan.removals.push(step);
    const isWanted = this.waiting.some(({ before }) => orphan.blocks.includes(before));
    if (remainingOf(orphan).length > 0 || isWanted) return;
    this.waiting = this.waiting.filter((each) => each !== orphan);
  }

  #place(tier: "gpu" | "cpu", blocks: readonly number[]): void {
    if (tier === "cpu") this.hasSeenCpu = true;
    for (const block of blocks) {
      this.known.add(block);
      this.told.add(block);
      this.#add(tier, block, 1);
    }
    const freed = blocks.flatMap((block) => this.waiting.filter(({ before }) => before === block));
    this.waiting = this.waiting.filter((orphan) => !freed.includes(orphan));
    for (const { blocks: attached, removals } of freed) {
      this.#place("gpu", attached);
      for (const removal of removals) this.apply(removal);
    }
  }

  #add(tier: "gpu" | "cpu", block: number, by: number): void {
    this[tier].set(block, Math.max(0, (this[tier].get(block) ?? 0) + by));
  }
}

const block = fc.nat({ max: PARENTS.length - 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      ...{ do: fc.constant("store" as const), block, length: fc.integer({ min: 1, max: 4 }) },
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("offload" as const), block }) },
  {
    weight: 5,
    arbitrary: fc.record({
      ...{ do: fc.constant("remove" as const), block, tier: fc.constantFrom("gpu", "cpu") },
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: "clear" as const }) },
);
/**
 * next: in order; restart: the engine starts anew; missed: one message before it is lost; repeated:
 * an old message comes again; from-store, from-log: another relay takes over before it.
 */
const kind = fc.oneof(
  { weight: 8, arbitrary: fc.constant("next") },
  ...["restart", "missed", "repeated", "from-store", "from-log"].map((each) => ({
    weight: 1,
    arbitrary: fc.constant(each),
  })),
);
const history = fc.array(fc.record({ kind, steps: fc.array(step, { maxLength: 5 }) }), {
  maxLength: 30,
});

function newRelay(): HolderRelay {
  return new HolderRelay({ holder, model: MODEL, hasher, canReplay: false });
}

function relayFromStore(residency: Residency): HolderRelay {
  const relay = newRelay();
  restoreRelay(relay, residency, { model: MODEL });
  return relay;
}

function relayFromLog(log: readonly KeyedBatch[]): HolderRelay {
  const relay = newRelay();
  for (const batch of log) relay.adopt(batch);
  return relay;
}

/** What comes out of the log for what went in. */
function logged(batch: KeyedBatch): KeyedBatch {
  const decoded = decodeKeyedBatches(encodeKeyedBatches(holder.endpointId, [batch]));
  // Parents and rows are for the same process, and stay out of the log.
  const events = batch.events.map((event) => {
    if (event.type === "removed") return { ...event, rows: undefined };
    if (event.type !== "stored") return event;
    const { type, tier, handles, keys, blockSizeTokens } = event;
    return { type, tier, handles, keys, blockSizeTokens };
  });
  expect(decoded).toEqual({ ok: true, value: [{ ...batch, events }] });
  return decoded.ok ? (decoded.value[0] ?? batch) : batch;
}

describe("the write path under any history", () => {
  it("leaves in the index what counting stores and removals gives", () => {
    fc.assert(
      fc.property(history, (messages) => {
        const index = new MemoryIndex();
        const residency = new Residency({ index, entriesMax: 1000 });
        const parts = { residency, clock: nodeClock, log: silentLog, meter: silentMeter };
        const applier = new Applier(parts);
        const model = new Model();
        const log: KeyedBatch[] = [];
        let relay = newRelay();
        let seq = -1;
        for (const [time, { kind, steps }] of messages.entries()) {
          if (kind === "repeated") {
            const repeated = { ts: 0.5, rank: 0, events: steps.map(eventOf) };
            if (seq >= 0) expect(relay.live({ seq, batch: repeated }).batches).toEqual([]);
            continue;
          }
          if (kind === "from-store") relay = relayFromStore(residency);
          if (kind === "from-store" || kind === "from-log") model.loseWaiting();
          if (kind === "from-store") model.forgetRemoved();
          if (kind === "from-log") model.readLog();
          if (kind === "from-log") relay = relayFromLog(log);
          if (kind === "restart") model.drop();
          if (kind === "restart" || kind === "missed") model.isExact = kind === "restart";
          seq = kind === "restart" ? 0 : seq + (kind === "missed" ? 2 : 1);
          // Nothing shows that the engine was in the same life all the time.
          if (kind.startsWith("from-") && seq > 0) model.isExact = false;
          for (const each of steps) model.apply(each);

          const said = { ts: time + 1, rank: 0, events: steps.map(eventOf) };
          const [batch] = relay.live({ seq, batch: said }).batches;
          expect(batch).toBeDefined();
          if (batch === undefined) return;
          log.push(logged(batch));
          applier.accept(logged(batch));
          // A log may repeat: the second one must change nothing.
          applier.accept(batch);
        }

        for (const block of PARENTS.keys()) {
          const namespace = { model: MODEL, lora: null, blockSizeTokens: 2 };
          const key = keysOf({ ...namespace, tokens: tokensOf(pathTo(block)) }).at(-1) ?? 0n;
          const tiers = index.residency(blockKey(key)).map(({ tier }) => tier);
          const held = (["cpu", "gpu"] as const).filter((tier) => model[tier].get(block));
          expect(tiers.sort()).toEqual(held);
        }
        const cursor = residency.cursorOf(holder);
        if (cursor === null) return;
        const isExact = model.isExact && !model.isWaiting;
        expect(cursor).toMatchObject({ seq, state: isExact ? "EXACT" : "DEGRADED" });
      }),
      { numRuns: 300 },
    );
  });
});
