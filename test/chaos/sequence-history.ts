/**
 * Histories of messages alone: an engine that counts them, the ways to its relay, a log or none, and the
 * applier. Messages have no events, so that a history costs a hundredth of a whole one, and the orders,
 * losses and restarts that matter to who puts messages in order come up by themselves.
 */
import { endpointId, type Holder } from "../../src/core/ids.ts";
import { silentLog } from "../../src/core/log.ts";
import { silentMeter } from "../../src/core/meter.ts";
import { Applier } from "../../src/events/applier.ts";
import { HolderRelay, type RelayStep } from "../../src/events/holder-relay.ts";
import { isNote, type KeyedBatch } from "../../src/events/keyed-batch.ts";
import type { KvEventBatch } from "../../src/events/kv-event.ts";
import { isHealable } from "../../src/events/loss-rank.ts";
import { HotIndex } from "../../src/indexer/hot-index.ts";
import { type HolderCursor, Residency } from "../../src/indexer/residency.ts";
import type { BlockHasher } from "../../src/keys/block-hasher.ts";
import type { Chance } from "./chance.ts";
import { batchesOf, ChaosLog, NO_LOG_FAULTS } from "./chaos-log.ts";
import { Divergence, type Said, STILL_CLOCK } from "./chaos-said.ts";
import { ChaosStream, NO_WAY_FAULTS } from "./chaos-stream.ts";

const MODEL = "model";
/** Times that an engine is asked in the end, as it is in the serving process while something is missing. */
const HEAL_ROUNDS = 2;
/** Nothing enters it. */
const INDEX = new HotIndex();
const SOUND = 1;
const PAYLOAD_BYTES = 9;

/** Counts its messages in each life, and has the newest ones to be asked for. */
class Counter {
  readonly bufferMessages: number;
  life = 1;
  seq = -1;
  said: Said[] = [];
  /** Times of all messages of each life. */
  readonly #timesOf = new Map<number, number[]>();
  readonly #lifeAt = new Map<number, number>();

  constructor(bufferMessages: number) {
    this.bufferMessages = bufferMessages;
  }

  say(atMs: number): Said {
    this.seq += 1;
    const payload = new Uint8Array(PAYLOAD_BYTES);
    payload[0] = SOUND;
    new DataView(payload.buffer).setFloat64(1, atMs);
    const said = { life: this.life, seq: this.seq, atMs, payload };
    this.said.push(said);
    if (this.said.length > this.bufferMessages) this.said.shift();
    this.#timesOf.set(this.life, [...(this.#timesOf.get(this.life) ?? []), atMs]);
    this.#lifeAt.set(atMs, this.life);
    return said;
  }

  restart(): void {
    this.life += 1;
    this.seq = -1;
    this.said = [];
  }

  /** Times of the messages of a life up to that of this time. */
  upTo(atMs: number): readonly number[] {
    const times = this.#timesOf.get(this.#lifeAt.get(atMs) ?? 0) ?? [];
    return times.slice(0, times.indexOf(atMs) + 1);
  }
}

function decodeTime(payload: Uint8Array): KvEventBatch | null {
  if (payload.length !== PAYLOAD_BYTES || payload[0] !== SOUND) return null;
  const view = new DataView(payload.buffer, payload.byteOffset);
  return { ts: view.getFloat64(1) / 1000, rank: 0, events: [] };
}

export class SequenceHistory {
  readonly #chance: Chance;
  readonly #hasher: BlockHasher;
  readonly #holder: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
  readonly #engine: Counter;
  readonly #canReplay: boolean;
  readonly #log: ChaosLog | null;
  #readTo = 0;
  #residency = new Residency({ index: INDEX, entriesMax: 1 });
  #applier = this.#newApplier();
  #fencedBy: number | null = null;
  /** Times of the messages that were applied in this epoch. */
  #applied: number[] = [];
  #nowMs = 1_700_000_000_000;
  readonly #stream: ChaosStream<Counter>;
  exactClaims = 0;

  constructor(chance: Chance, hasher: BlockHasher) {
    this.#chance = chance;
    this.#hasher = hasher;
    const rate = (): number => (chance.is(0.4) ? 0 : chance.of([0.02, 0.1, 0.3]));
    this.#canReplay = chance.is(0.8);
    this.#engine = new Counter(chance.of([2, 5, Number.POSITIVE_INFINITY]));
    const faults = { drop: rate() / 2, double: rate(), swap: rate() / 2, truncate: rate() / 4 };
    this.#log = chance.is(0.3) ? new ChaosLog(chance, faults) : null;
    for (let said = chance.is(0.3) ? chance.between(1, 6) : 0; said > 0; said -= 1) this.#goOn();
    this.#stream = new ChaosStream({
      ...{ engine: this.#engine, relay: this.#newRelay(), chance, newDecode: () => decodeTime },
      faults: {
        ...{ drop: rate(), double: rate(), swap: rate(), damage: rate() / 2 },
        ...{ replayFails: rate(), replyLost: rate() / 4 },
      },
      onStep: (step) => this.#take(step),
    });
  }

  run(): void {
    const chance = this.#chance;
    for (let turns = chance.between(10, 60); turns > 0; turns -= 1) this.#turn();
    this.#stream.faults = NO_WAY_FAULTS;
    if (this.#log !== null) {
      this.#accept(this.#log.readLate());
      this.#log.faults = NO_LOG_FAULTS;
    }
    this.#heal();
    const isWhole = this.#canReplay && this.#engine.bufferMessages === Number.POSITIVE_INFINITY;
    if (isWhole) this.#expectAll("after healing");
    this.#engine.restart();
    this.#stream.engineRestarted();
    this.#say();
    this.#settle();
    this.#expectAll("after its engine started again");
  }

  #turn(): void {
    const chance = this.#chance;
    const stream = this.#stream;
    this.#nowMs += chance.between(1, 2000);
    const dice = chance.below(100);
    if (dice < 36) this.#say();
    else if (dice < 74) stream.step();
    else if (dice < 82) this.#read();
    else if (dice < 88) {
      this.#mayGoOn();
      stream.reconnect({ isLossy: chance.is(0.5) });
    } else if (dice < 92) {
      this.#engine.restart();
      stream.engineRestarted();
    } else if (dice < 95) this.#restartRelay();
    else if (dice < 97) stream.heal();
    else if (dice < 98) stream.resync();
    else this.#overtake();
  }

  #say(): void {
    this.#nowMs += 1;
    this.#stream.send(this.#engine.say(this.#nowMs));
  }

  /** Nobody listens. */
  #goOn(): void {
    this.#nowMs += this.#chance.between(1, 2000);
    this.#engine.say(this.#nowMs);
  }

  #mayGoOn(): void {
    const chance = this.#chance;
    if (!chance.is(0.4)) return;
    let seqTo = this.#engine.seq + chance.between(0, 6);
    if (chance.is(0.4)) {
      this.#engine.restart();
      this.#stream.engineRestarted();
      seqTo = (this.#stream.relay.cursor?.seq ?? -1) + chance.between(-1, 3);
    }
    while (this.#engine.seq < seqTo) this.#goOn();
  }

  /** It goes on from what the router has, or from the log. */
  #restartRelay(): void {
    const log = this.#log;
    const relay = this.#newRelay();
    log?.relaysKilled();
    this.#stream.restarted(relay);
    const cursor = this.#cursor;
    const isFromRouter = cursor !== null && (log === null || this.#chance.is(0.3));
    if (isFromRouter) relay.restoreCursor(cursor);
    // What was there is followed by all that was published behind it.
    const fromMax = isFromRouter ? this.#readTo : (log?.messages.length ?? 0);
    const from = this.#chance.is(0.7) ? 0 : this.#chance.between(0, fromMax);
    for (const message of log?.messages.slice(from) ?? []) {
      for (const batch of batchesOf(message)) relay.adopt(batch);
    }
    this.#stream.ready();
    this.#mayGoOn();
  }

  #newRelay(): HolderRelay {
    const isBack = this.#chance.is(0.3);
    const nowMs = isBack ? this.#chance.between(1, this.#nowMs) : this.#nowMs;
    const epochFirst = this.#log === null ? 1 : nowMs;
    const known = { holder: this.#holder, model: MODEL, hasher: this.#hasher };
    return new HolderRelay({ ...known, canReplay: this.#canReplay, epochFirst });
  }

  #take({ batches }: RelayStep): void {
    for (const batch of batches) {
      if (this.#log === null) this.#accept([batch]);
      else this.#log.publish(batch);
    }
    const { shown } = this.#stream;
    const cursor = this.#cursor;
    if (this.#log !== null || cursor?.state !== "EXACT" || shown === null) return;
    if (cursor.engineMs >= shown.atMs) return;
    throw new Divergence(`EXACT at ${cursor.epoch}/${cursor.seq}, ${shown.seq} is known of`);
  }

  #read(): void {
    const message = this.#log?.messages[this.#readTo];
    if (message === undefined) {
      this.#log?.flush();
      return;
    }
    this.#readTo += 1;
    this.#accept(this.#log?.read(message) ?? []);
  }

  #accept(batches: readonly KeyedBatch[]): void {
    for (const batch of batches) {
      const before = this.#cursor;
      this.#applier.accept(batch);
      const after = this.#cursor;
      const isNews = after?.epoch !== before?.epoch;
      if (isNews) this.#applied = [];
      const isApplied = after?.epoch === batch.epoch && (isNews || after.seq !== before?.seq);
      if (isApplied && !isNote(batch) && batch.seq >= 0) this.#applied.push(batch.engineMs);
      if (after?.state === "EXACT") this.#checkClaim(after);
    }
  }

  #checkClaim({ epoch, seq, engineMs }: HolderCursor): void {
    this.exactClaims += 1;
    const said = this.#engine.upTo(engineMs);
    const isSame = said.length === seq + 1 && said.join() === this.#applied.join();
    if (seq < 0 || !isSame) {
      throw new Divergence(`EXACT at ${epoch}/${seq}: ${this.#applied} was applied, said ${said}`);
    }
  }

  #heal(): void {
    this.#settle();
    this.#say();
    this.#settle();
    this.#overtake();
    this.#settle();
    for (let round = 0; round < HEAL_ROUNDS; round += 1) {
      const { relay } = this.#stream;
      if (this.#log !== null && this.#isAskedFor(relay.epoch)) relay.wound();
      if (relay.isWounded) this.#stream.heal();
      this.#settle();
    }
  }

  #isAskedFor(epoch: number): boolean {
    const cursor = this.#cursor;
    if (cursor?.state !== "DEGRADED" || cursor.epoch !== epoch) return false;
    return cursor.reason === "catching-up" || isHealable(cursor.reason ?? "");
  }

  #overtake(): void {
    const epoch = this.#fencedBy;
    this.#fencedBy = null;
    if (epoch !== null && this.#stream.relay.epoch < epoch) this.#stream.overtake(epoch);
  }

  #settle(): void {
    while (!this.#stream.isIdle) this.#stream.step();
    this.#log?.flush();
    while (this.#readTo < (this.#log?.messages.length ?? 0)) this.#read();
  }

  #expectAll(when: string): void {
    const cursor = this.#cursor;
    const isLast = cursor?.engineMs === this.#engine.said.at(-1)?.atMs;
    if (cursor?.state === "EXACT" && isLast) return;
    throw new Divergence(`${cursor?.state}(${cursor?.reason}) at ${cursor?.seq} ${when}`);
  }

  /** Where it has come to. */
  get end(): string {
    const { epoch, seq, state } = this.#cursor ?? {};
    return `${state} ${epoch}/${seq} ${this.#applied.join()}`;
  }

  get #cursor(): HolderCursor | null {
    return this.#residency.cursorOf(this.#holder);
  }

  #newApplier(): Applier {
    const onFenced = (_: Holder, epoch: number): void => {
      this.#fencedBy = epoch;
    };
    const ports = { clock: STILL_CLOCK, log: silentLog, meter: silentMeter };
    return new Applier({ residency: this.#residency, ...ports, onFenced });
  }
}
