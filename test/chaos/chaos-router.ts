/** The router's side of a history, and what it is held against. */
import type { EngineName } from "../../src/core/engine-name.ts";
import { blockKey, type Holder, holderName } from "../../src/core/ids.ts";
import { silentLog } from "../../src/core/log.ts";
import { silentMeter } from "../../src/core/meter.ts";
import { Applier } from "../../src/events/applier.ts";
import type { HolderRelay } from "../../src/events/holder-relay.ts";
import type { KeyedBatch } from "../../src/events/keyed-batch.ts";
import { isHealable } from "../../src/events/loss-rank.ts";
import { restoreRelay } from "../../src/events/restore-relay.ts";
import { decodePart, encodeParts } from "../../src/events/snapshot-codec.ts";
import { HotIndex } from "../../src/indexer/hot-index.ts";
import { type BlockRecord, type HolderCursor, Residency } from "../../src/indexer/residency.ts";
import { tierOrder } from "../../src/tiers/tier.ts";
import type { TruthBlock } from "./chaos-content.ts";
import type { ChaosEngine } from "./chaos-engine.ts";
import { type ChaosPrompts, longestChain, NOTHING_MATCHED } from "./chaos-prompts.ts";
import { Divergence, type Holdings, type Said, STILL_CLOCK } from "./chaos-said.ts";
import { ChaosStore } from "./chaos-store.ts";

/** Some rows a part, so that holders have several. */
const PART_BYTES_MAX = 2048;

export class ChaosRouter {
  readonly #engineOf: (holder: Holder) => ChaosEngine;
  readonly #prompts: ChaosPrompts;
  #index = new HotIndex();
  #residency = newResidency(this.#index);
  #store = new ChaosStore();
  /** All that was written of each holder. */
  readonly #kept = new Map<string, string>();
  #applier = this.#newApplier();
  /** Keys of each life that were claimed by blocks which a relay that started anew cannot know of. */
  readonly #forgotten = new Map<string, Set<bigint>>();
  /** Epochs that were known when earlier ones were fenced off. */
  #fenced = new Map<Holder, number>();
  exactClaims = 0;

  constructor(deps: {
    readonly engineOf: (holder: Holder) => ChaosEngine;
    readonly prompts: ChaosPrompts;
  }) {
    this.#engineOf = deps.engineOf;
    this.#prompts = deps.prompts;
  }

  accept(batch: KeyedBatch): void {
    this.#applier.accept(batch);
    const what = `batch ${batch.epoch}/${batch.seq} of ${holderName(batch.holder)}`;
    this.#checkKeys(batch.holder, what);
    this.#checkClaim(batch.holder, what);
  }

  takeFenced(): ReadonlyMap<Holder, number> {
    const fenced = this.#fenced;
    this.#fenced = new Map();
    return fenced;
  }

  truncated(): void {
    this.#applier.truncated();
  }

  cursorOf(holder: Holder): HolderCursor | null {
    return this.#residency.cursorOf(holder);
  }

  /** Whether a reader of the log asks the relay to heal: it is of this epoch, and stands still. */
  asksFor(holder: Holder, epoch: number): boolean {
    const cursor = this.cursorOf(holder);
    if (cursor?.state !== "DEGRADED" || cursor.epoch !== epoch) return false;
    return cursor.reason === "catching-up" || isHealable(cursor.reason ?? "");
  }

  /** Writes what has changed, or as much as a portion has. Returns whether nothing is left. */
  keep(portionBytesMax: number): boolean {
    const flush = this.#residency.takeFlush(portionBytesMax);
    this.#store.write(flush);
    for (const { holder } of flush.holders) this.#kept.set(holderName(holder), this.#all(holder));
    return flush.isRoundEnd;
  }

  /** What another process has that reads a snapshot of what was kept. */
  snapshot(residency: Residency = newResidency()): Residency {
    const kept = newResidency();
    this.#store.restore(kept);
    for (const holder of kept.holders()) {
      const parts = encodeParts(kept, holder, PART_BYTES_MAX).flatMap((data) => {
        const part = decodePart(data);
        return part.ok ? [part.value] : [];
      });
      const cursor = parts[0]?.cursor ?? null;
      const ambiguous = BigUint64Array.from(parts.flatMap((part) => [...part.ambiguous]));
      residency.replace(holder, { cursor, rows: parts.flatMap(({ rows }) => rows), ambiguous });
    }
    return residency;
  }

  /** The relay starts anew, without any row: it knows of no claim that was before. */
  relayForgets(holder: Holder): void {
    for (const { plainKey } of this.#engineOf(holder).blocks()) this.#forgetClaim(holder, plainKey);
  }

  /** From what was kept; a new replica has a snapshot of that, and no store. */
  restart({ isReplica }: { readonly isReplica: boolean }): void {
    this.#index = new HotIndex();
    this.#residency = newResidency(this.#index);
    if (isReplica) {
      this.snapshot(this.#residency);
      this.#store = new ChaosStore();
    } else this.#store.restore(this.#residency);
    for (const holder of this.#residency.holders()) {
      const [name, all] = [holderName(holder), this.#all(holder)];
      const kept = this.#kept.get(name);
      if (all !== kept) throw new Divergence(`${name}: restored is ${all}, kept was ${kept}`);
    }
    this.#applier = this.#newApplier();
  }

  #all(holder: Holder): string {
    const residency = this.#residency;
    const records = [...residency.records(holder)];
    const rows = records.map(([handle, { key, copies }]) => `${handle}: ${key} ${copies.join()}`);
    // What lower tiers had once is told by what they have.
    const isLower = records.some(([, { copies }]) => copies.slice(1).some((count) => count > 0));
    const isLowerSeen = !isLower || residency.hasSeenLowerTiers(holder);
    const ambiguous = residency.ambiguousKeys(holder).join();
    const cursor = JSON.stringify(residency.cursorOf(holder));
    return `${cursor} ${isLowerSeen} [${ambiguous}] ${rows.sort().join()}`;
  }

  #forgetClaim(holder: Holder, plainKey: bigint): void {
    if (this.#residency.isAmbiguous(holder, plainKey)) return;
    const keys = this.#forgottenBy(holder);
    this.#forgotten.set(this.#lifeOf(holder), keys.add(plainKey));
  }

  #forgottenBy(holder: Holder): Set<bigint> {
    return this.#forgotten.get(this.#lifeOf(holder)) ?? new Set();
  }

  #lifeOf(holder: Holder): string {
    return `${holderName(holder)} ${this.#engineOf(holder).life}`;
  }

  /** As ingest.ts does with what the store had. */
  restoreRelay(relay: HolderRelay, model: string, engine: EngineName): void {
    restoreRelay(relay, this.#residency, { model, engine });
    // Rows are of blocks that are held: what removed ones have claimed is not known any more.
    const rows = new Set([...this.#residency.records(relay.holder)].map(([handle]) => handle));
    for (const { handle, plainKey } of this.#engineOf(relay.holder).blocks()) {
      if (!rows.has(handle)) this.#forgetClaim(relay.holder, plainKey);
    }
  }

  /** Everything, as text. */
  contents(): string {
    return this.#residency
      .holders()
      .map((holder) => {
        const rows = [...this.#held(holder, true)].map(([handle, held]) => `${handle} ${held}`);
        return `${holderName(holder)} ${this.cursorOf(holder)?.state} ${rows.sort().join("; ")}`;
      })
      .sort()
      .join("\n");
  }

  expectExact(holder: Holder, when: string): void {
    const cursor = this.cursorOf(holder);
    if (cursor?.state !== "EXACT") {
      throw new Divergence(`${holderName(holder)} is ${cursor?.state}(${cursor?.reason}) ${when}`);
    }
    this.#compare(holder, this.#engineOf(holder).holdings(), when);
  }

  /** EXACT ones hold what the engine holds, and the last document is found everywhere. */
  checkHealed(holder: Holder): void {
    const cursor = this.cursorOf(holder);
    if (cursor !== null && isWhole(cursor)) {
      this.#compare(holder, this.#engineOf(holder).holdings(), "after healing");
    }
  }

  /** The index says of every block what the residency has. */
  checkIndex(holders: readonly Holder[]): void {
    for (const holder of holders) {
      const engine = this.#engineOf(holder);
      const isExact = this.cursorOf(holder)?.state === "EXACT";
      const records = new Map(this.#residency.records(holder));
      for (const block of engine.blocks()) {
        this.#checkBlock(holder, { block, record: records.get(block.handle), isExact });
      }
    }
  }

  /** Of each prompt an EXACT holder is matched with the longest chain that its engine has. */
  checkMatches(holders: readonly Holder[]): void {
    const exact = holders.flatMap((holder) => {
      const cursor = this.cursorOf(holder);
      const engine = this.#engineOf(holder);
      const holdings = engine.holdingsAt(cursor?.engineMs ?? -1);
      if (cursor?.state !== "EXACT" || !engine.traits.areExtrasTold || holdings === null) return [];
      return [{ holder, engine, holdings }];
    });
    if (exact.length === 0) return;
    for (const prompt of this.#prompts.all) {
      const matched = this.#prompts.match(prompt, this.#index, this.#residency);
      for (const { holder, engine, holdings } of exact) {
        const name = holderName(holder);
        const told = JSON.stringify(matched.get(name) ?? NOTHING_MATCHED);
        const truth = JSON.stringify(longestChain(prompt, holdings, engine));
        if (told === truth) continue;
        const what = `document ${prompt.document}, ${prompt.lora}, ${prompt.salt}`;
        throw new Divergence(`${name}: of ${what} ${told} is matched, it has ${truth}`);
      }
    }
  }

  #checkBlock(
    holder: Holder,
    found: {
      readonly block: TruthBlock;
      readonly record: BlockRecord | undefined;
      readonly isExact: boolean;
    },
  ): void {
    const { block, record, isExact } = found;
    const engine = this.#engineOf(holder);
    const name = holderName(holder);
    const { areExtrasTold } = engine.traits;
    const isAmbiguous = record !== undefined && this.#residency.isAmbiguous(holder, record.key);
    if (isAmbiguous && record.key === block.plainKey && engine.claims.ever(block.plainKey) < 2) {
      throw new Divergence(`${name}: one handle claims ${block.plainKey}, which is not routed on`);
    }
    if (record !== undefined && !isAmbiguous) {
      const tiers = this.#tiersOf(holder, record.key);
      const isListed = record.copies.every((count, order) => count === 0 || tiers.has(order));
      if (!isListed) throw new Divergence(`${name}: index lacks a tier of ${block.handle}`);
    }
    if (areExtrasTold) {
      const tiers = this.#tiersOf(holder, block.key);
      const copies = engine.copiesOf(block.handle);
      const isSame = copies.every((count, order) => count > 0 === tiers.has(order));
      if (isExact && !isSame) throw new Divergence(`${name}: index differs about ${block.handle}`);
    } else if (
      isExact &&
      engine.claims.inLife(block.plainKey) > 1 &&
      !this.#forgottenBy(holder).has(block.plainKey)
    ) {
      const tiers = this.#tiersOf(holder, block.plainKey);
      if (tiers.size > 0) {
        throw new Divergence(`${name}: routes on ${block.plainKey}, which two handles claim`);
      }
    }
  }

  #tiersOf(holder: Holder, key: bigint): ReadonlySet<number> {
    const name = holderName(holder);
    const entries = this.#index.residency(blockKey(key));
    const own = entries.filter((entry) => holderName(entry.holder) === name);
    return new Set(own.map(({ tier }) => tierOrder(tier)));
  }

  /** Whatever is missing, nothing is held under the key of another block. */
  #checkKeys(holder: Holder, when: string): void {
    const engine = this.#engineOf(holder);
    if (!engine.traits.areExtrasTold) return;
    const isExact = this.cursorOf(holder)?.state === "EXACT";
    for (const [handle, { key }] of this.#residency.records(holder)) {
      const truth = engine.blockOf(handle)?.key;
      if (truth === key || !engine.hasKey(key)) continue;
      // Where what told of its salt or image was lost, tokens alone place it, and it is not EXACT.
      if (!isExact && engine.isIdentityUntold(handle)) continue;
      throw new Divergence(`${when}: ${handle} is held as ${key}, it is ${truth}`);
    }
  }

  /** EXACT means all that the engine is known to have said: `shown` is the newest of it. */
  checkKnown(holder: Holder, shown: Said | null): void {
    const cursor = this.cursorOf(holder);
    if (cursor?.state !== "EXACT" || shown === null || cursor.engineMs >= shown.atMs) return;
    const place = `${cursor.epoch}/${cursor.seq}`;
    throw new Divergence(`${holderName(holder)}: EXACT at ${place}, ${shown.seq} is known of`);
  }

  #checkClaim(holder: Holder, when: string): void {
    const cursor = this.cursorOf(holder);
    if (cursor === null || !isWhole(cursor)) return;
    this.exactClaims += 1;
    const engine = this.#engineOf(holder);
    const holdings = cursor.seq < 0 ? null : engine.holdingsAt(cursor.engineMs);
    if (holdings === null) throw new Divergence(`${when}: EXACT at a message never said`);
    this.#compare(holder, holdings, `${when}, EXACT at ${cursor.epoch}/${cursor.seq}`);
  }

  #compare(holder: Holder, expected: Holdings, when: string): void {
    const isKeyed = this.#engineOf(holder).traits.areExtrasTold;
    const held = this.#held(holder, isKeyed);
    for (const [handle, text] of expected) {
      const wanted = isKeyed ? text : text.slice(text.indexOf(" ") + 1);
      if (held.get(handle) === wanted) continue;
      if (!held.has(handle) && this.#engineOf(holder).isHint(handle)) continue;
      throw new Divergence(`${when}: ${handle} is held as ${held.get(handle)}, it is ${wanted}`);
    }
    for (const handle of held.keys()) {
      if (!expected.has(handle)) throw new Divergence(`${when}: ${handle} is held, and is gone`);
    }
  }

  #held(holder: Holder, isKeyed: boolean): Map<bigint, string> {
    const held = new Map<bigint, string>();
    for (const [handle, { key, copies }] of this.#residency.records(holder)) {
      held.set(handle, isKeyed ? `${key} ${copies.join()}` : copies.join());
    }
    return held;
  }

  #newApplier(): Applier {
    const residency = this.#residency;
    const onFenced = (holder: Holder, epoch: number): void => {
      this.#fenced.set(holder, epoch);
    };
    const ports = { clock: STILL_CLOCK, log: silentLog, meter: silentMeter };
    return new Applier({ residency, ...ports, onFenced });
  }
}

/** All that an engine said is held; of a connector's blocks it is not known how long they are there. */
function isWhole({ state, reason }: HolderCursor): boolean {
  return state === "EXACT" || reason === "no-removals";
}

function newResidency(index = new HotIndex()): Residency {
  return new Residency({ index, entriesMax: 1_000_000 });
}
