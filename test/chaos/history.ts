/**
 * One random history: engines, the ways to their relays, a log or none, and a router, with everything
 * going wrong; then healing. What the router claims is held against the engines' own Maps all along.
 */
import { endpointId, type Holder, holderName } from "../../src/core/ids.ts";
import { isConnector } from "../../src/events/connector-rule.ts";
import { createEventDecoder } from "../../src/events/event-decoder.ts";
import { HolderRelay, type RelayStep } from "../../src/events/holder-relay.ts";
import type { KeyedBatch } from "../../src/events/keyed-batch.ts";
import type { KvEventBatch } from "../../src/events/kv-event.ts";
import { restoreRelay } from "../../src/events/restore-relay.ts";
import type { BlockHasher } from "../../src/keys/block-hasher.ts";
import { Chance } from "./chance.ts";
import type { ChaosContent } from "./chaos-content.ts";
import { ChaosEngine } from "./chaos-engine.ts";
import { HINT_LIFE_MS } from "./chaos-held.ts";
import {
  CALM_OF,
  type EngineKind,
  type Turn,
  traitsOf,
  turnOf,
  UNHEARD_OF,
} from "./chaos-kinds.ts";
import { batchesOf, ChaosLog, NO_LOG_FAULTS } from "./chaos-log.ts";
import { ChaosPrompts } from "./chaos-prompts.ts";
import { ChaosRouter } from "./chaos-router.ts";
import { ChaosStream, NO_WAY_FAULTS, type WayFaults } from "./chaos-stream.ts";
import { type EngineTraits, engineNameOf } from "./chaos-wire.ts";

export interface HistoryDeps {
  readonly hasher: BlockHasher;
  /** Of MODEL and the hasher's seed; may be shared by histories. */
  readonly content: ChaosContent;
}

export const MODEL = "model";
/** Turns of an engine to which nobody listens. */
const UNHEARD_MAX = 60;
/** Times that engines are asked in the end, as they are in the serving process while something is missing. */
const HEAL_ROUNDS = 2;

export class History {
  readonly #kind: EngineKind;
  readonly #chance: Chance;
  readonly #deps: HistoryDeps;
  readonly #streams = new Map<string, ChaosStream<ChaosEngine>>();
  readonly #holders: Holder[] = [];
  /** Null: the relays feed the router directly. */
  readonly #log: ChaosLog | null;
  /** Place of the router's reader, and of what the log has thrown away. */
  #readTo = 0;
  #purgedTo = 0;
  /** Of the last round of writing that has ended, and of the one that goes on. */
  #keptTo = 0;
  #keepingTo: number | null = null;
  #nowMs = 1_700_000_000_000;
  readonly router: ChaosRouter;
  messages = 0;

  constructor(seed: number, deps: HistoryDeps, kind: EngineKind) {
    this.#kind = kind;
    this.#chance = new Chance(seed);
    this.#deps = deps;
    const chance = this.#chance;
    const { hasher } = deps;
    this.router = new ChaosRouter({
      engineOf: (holder): ChaosEngine => this.#streamOf(holder).engine,
      prompts: new ChaosPrompts(hasher, MODEL),
    });
    const calm = CALM_OF[kind];
    const rate = (): number => (chance.is(calm) ? 0 : chance.of([0.02, 0.1, 0.3]));
    this.#log = chance.is(0.5)
      ? new ChaosLog(chance, {
          ...{ drop: rate() / 2, double: rate(), swap: rate() / 2, truncate: rate() / 4 },
        })
      : null;
    const endpoints = kind === "lives" ? 1 : chance.between(1, 2);
    for (let endpoint = 0; endpoint < endpoints; endpoint += 1) {
      const traits = traitsOf(kind, chance);
      const faults: WayFaults = {
        ...{ drop: rate(), double: rate(), swap: rate(), damage: rate() / 2 },
        ...{ replayFails: rate(), replyLost: rate() / 4 },
      };
      const ranks = chance.between(1, 2);
      for (let rank = 0; rank < ranks; rank += 1) {
        this.#addStream(
          { endpointId: endpointId(`10.0.0.${endpoint + 1}:8000`), rank },
          traits,
          faults,
        );
      }
    }
  }

  run(): void {
    for (let turns = this.#chance.between(30, 160); turns > 0; turns -= 1) this.#turn();
    this.#calm();
    this.#heal();
    this.#check();
    // Whatever was lost for good, an engine that starts again is known as a whole.
    for (const stream of this.#streams.values()) {
      stream.engine.restart(this.#chance.below(2));
      stream.engineRestarted();
      this.#say(stream);
    }
    this.#settle();
    for (const holder of this.#holders)
      this.router.expectExact(holder, "after its engine started again");
    this.router.checkIndex(this.#holders);
    this.router.checkMatches(this.#holders);
  }

  #addStream(holder: Holder, shared: Omit<EngineTraits, "rank">, faults: WayFaults): void {
    const { content } = this.#deps;
    const chance = this.#chance;
    const traits = { ...shared, rank: holder.rank };
    const engine = new ChaosEngine(traits, { chance, content, hashSeed: 0 });
    const relay = this.#newRelay(holder, traits);
    const isLate = UNHEARD_OF[this.#kind] > 0 && (this.#kind === "middle" || chance.is(0.3));
    for (let said = isLate ? chance.between(0, 8) : 0; said > 0; said -= 1) {
      this.#nowMs += 1;
      engine.step(this.#nowMs);
    }
    const onStep = (step: RelayStep): void => {
      this.#publish(step);
      if (this.#log === null) this.router.checkKnown(holder, this.#streamOf(holder).shown);
    };
    const newDecode = (): ((payload: Uint8Array) => KvEventBatch | null) => {
      const decoder = createEventDecoder(engineNameOf(traits));
      return (payload) => {
        const decoded = decoder.decode(payload);
        return decoded.ok ? decoded.value : null;
      };
    };
    this.#holders.push(holder);
    this.#streams.set(
      holderName(holder),
      new ChaosStream({ engine, relay, chance, faults, onStep, newDecode }),
    );
  }

  #newRelay(holder: Holder, traits: EngineTraits): HolderRelay {
    const { bufferMessages } = traits;
    const canReplay = bufferMessages !== null;
    // The clock of the relay's machine may have been set back since the one before.
    const nowMs = this.#chance.is(0.3) ? this.#chance.between(1, this.#nowMs) : this.#nowMs;
    const epochFirst = this.#log === null ? 1 : nowMs;
    const { hasher } = this.#deps;
    const deps = { holder, model: MODEL, hasher, canReplay, epochFirst };
    const connector = { isConnector: isConnector(engineNameOf(traits)), hintLifeMs: HINT_LIFE_MS };
    return new HolderRelay({ ...deps, ...connector });
  }

  #streamOf(holder: Holder): ChaosStream<ChaosEngine> {
    const stream = this.#streams.get(holderName(holder));
    if (stream === undefined) throw new Error("no such holder");
    return stream;
  }

  #publish({ batches }: RelayStep): void {
    for (const batch of batches) {
      if (this.#log === null) this.router.accept(batch);
      else this.#log.publish(batch);
    }
  }

  #turn(): void {
    const chance = this.#chance;
    const stream = chance.of([...this.#streams.values()]);
    this.#nowMs += chance.between(1, 2000);
    const turns: Readonly<Record<Turn, () => void>> = {
      act: () => this.#do(stream),
      step: () => stream.step(),
      read: () => this.#read(),
      reconnect: () => {
        this.#mayGoOnUnheard(stream);
        stream.reconnect({ isLossy: chance.is(0.5) });
      },
      restartEngine: () => this.#restartEngine(stream),
      restartRouter: () => this.#restartRouter(),
      restartRelays: () => this.#restartRelays(),
      purge: () => (this.#log === null ? stream.heal() : this.#purge(this.#log)),
      heal: () => stream.heal(),
      overtake: () => this.#overtake(),
      elapsed: () => stream.elapsed(this.#nowMs),
      resync: () => stream.resync(),
      keep: () => this.#keep(),
      ask: () => this.router.checkMatches(this.#holders),
    };
    turns[turnOf(this.#kind, chance)]();
  }

  #do(stream: ChaosStream<ChaosEngine>): void {
    const said = stream.engine.step(this.#nowMs);
    if (said === null) return;
    this.messages += 1;
    stream.send(said);
  }

  #say(stream: ChaosStream<ChaosEngine>): void {
    this.#nowMs += 1;
    this.messages += 1;
    stream.send(stream.engine.storeDocument(this.#nowMs));
  }

  #restartEngine(stream: ChaosStream<ChaosEngine>): void {
    stream.engine.restart(this.#chance.below(2));
    stream.engineRestarted();
  }

  /** Nobody listens: the engine goes on, or starts again and comes to about the number that is known. */
  #mayGoOnUnheard(stream: ChaosStream<ChaosEngine>): void {
    const { engine, relay } = stream;
    const chance = this.#chance;
    const share = UNHEARD_OF[this.#kind];
    if (share === 0 || !chance.is(share)) return;
    let seqTo = engine.seq + chance.between(0, 7);
    if (chance.is(0.4)) {
      this.#restartEngine(stream);
      seqTo = (relay.cursor?.seq ?? -1) + chance.of([0, 1, 5, 6]);
    }
    for (let turns = UNHEARD_MAX; turns > 0 && engine.seq < seqTo; turns -= 1) {
      this.#nowMs += chance.between(1, 2000);
      if (engine.step(this.#nowMs) !== null) this.messages += 1;
    }
  }

  /** The router reads on in the log. */
  #read(): void {
    const log = this.#log;
    if (log === null) return;
    if (this.#readTo < this.#purgedTo) {
      this.#readTo = this.#purgedTo;
      this.router.truncated();
    }
    const message = log.messages[this.#readTo];
    if (message === undefined) {
      log.flush();
      return;
    }
    this.#readTo += 1;
    this.#accept(log.read(message));
  }

  #accept(batches: readonly KeyedBatch[]): void {
    for (const batch of batches) this.router.accept(batch);
  }

  /** The router writes all, or what is of one holder: it goes on with the others next time. */
  #keep(): void {
    this.#keepingTo ??= this.#readTo;
    const isPart = this.#kind !== "any" && this.#chance.is(0.3);
    const isEnd = this.router.keep(isPart ? 1 : Number.POSITIVE_INFINITY);
    if (!isEnd) return;
    this.#keptTo = this.#keepingTo;
    this.#keepingTo = null;
  }

  /** A router that was killed goes on with what it had written last. */
  #restartRouter(): void {
    this.router.restart({ isReplica: this.#kind !== "any" && this.#chance.is(0.3) });
    this.#readTo = this.#keptTo;
    this.#keepingTo = null;
    if (this.#log !== null) return;
    for (const holder of this.#holders) {
      const stream = this.#streamOf(holder);
      const relay = this.#newRelay(holder, stream.engine.traits);
      this.router.restoreRelay(relay, MODEL, engineNameOf(stream.engine.traits));
      stream.restarted(relay);
      stream.ready();
      this.#mayGoOnUnheard(stream);
    }
  }

  /** Relays that were killed go on with what the log still has, or with nothing. */
  #restartRelays(): void {
    const log = this.#log;
    if (log === null) return;
    const isLogGone = this.#chance.is(0.2);
    const isFromKept = !isLogGone && this.#kind !== "any" && this.#chance.is(0.5);
    const snapshot = isFromKept ? this.router.snapshot() : null;
    log.relaysKilled();
    for (const holder of this.#holders) {
      this.router.relayForgets(holder);
      const stream = this.#streamOf(holder);
      const relay = this.#newRelay(holder, stream.engine.traits);
      stream.restarted(relay);
      if (snapshot === null) continue;
      restoreRelay(relay, snapshot, {
        ...{ model: MODEL, engine: engineNameOf(stream.engine.traits) },
      });
    }
    const keptTo = isFromKept ? this.#keptTo : 0;
    const tailFrom = isLogGone ? log.messages.length : Math.max(this.#purgedTo, keptTo);
    for (const message of log.messages.slice(tailFrom)) {
      for (const batch of batchesOf(message)) this.#streamOf(batch.holder).relay.adopt(batch);
    }
    for (const stream of this.#streams.values()) {
      stream.ready();
      this.#mayGoOnUnheard(stream);
    }
  }

  #purge(log: ChaosLog): void {
    const { messages } = log;
    const end = this.#kind === "any" ? messages.length : Math.max(this.#purgedTo, this.#readTo);
    this.#purgedTo = this.#chance.between(this.#purgedTo, end);
  }

  /** Nothing goes wrong any more. */
  #calm(): void {
    for (const stream of this.#streams.values()) stream.faults = NO_WAY_FAULTS;
    if (this.#log === null) return;
    this.#accept(this.#log.readLate());
    this.#log.faults = NO_LOG_FAULTS;
  }

  /** Every engine says a word, and is asked again where its relay or a reader of the log lacks something. */
  #heal(): void {
    this.#settle();
    for (const stream of this.#streams.values()) this.#say(stream);
    this.#settle();
    this.#overtake();
    this.#settle();
    for (let round = 0; round < HEAL_ROUNDS; round += 1) {
      for (const holder of this.#holders) {
        const { relay } = this.#streamOf(holder);
        if (this.#log !== null && this.router.asksFor(holder, relay.epoch)) relay.wound();
        if (relay.isWounded) this.#streamOf(holder).heal();
      }
      this.#settle();
    }
  }

  /** The router tells relays of epochs that it fences off which it knows. */
  #overtake(): void {
    for (const [holder, epoch] of this.router.takeFenced()) {
      const stream = this.#streamOf(holder);
      if (stream.relay.epoch < epoch) stream.overtake(epoch);
    }
  }

  #settle(): void {
    for (const stream of this.#streams.values()) while (!stream.isIdle) stream.step();
    if (this.#log === null) return;
    this.#log.flush();
    while (this.#readTo < this.#log.messages.length) this.#read();
  }

  #check(): void {
    for (const holder of this.#holders) {
      const { engine } = this.#streamOf(holder);
      const { bufferMessages, isOdd, isUnordered, hasConnector } = engine.traits;
      const isWholeLifeTold = bufferMessages === Number.POSITIVE_INFINITY;
      const isTierCleared = engine.traits.hasLowerTiers && engine.traits.isClearing;
      const isLeftOpen = isOdd || isUnordered || hasConnector || isTierCleared;
      if (isWholeLifeTold && !isLeftOpen) this.router.expectExact(holder, "after healing");
      else this.router.checkHealed(holder);
    }
    this.router.checkIndex(this.#holders);
    this.router.checkMatches(this.#holders);
  }
}
