/**
 * One random history: engines, the ways to their relays, a log or none, and a router, with everything
 * going wrong; then healing. What the router claims is held against the engines' own Maps all along.
 */
import { createHash } from "node:crypto";
import { endpointId, type Holder, holderName } from "../../src/core/ids.ts";
import { HolderRelay, type RelayStep } from "../../src/events/holder-relay.ts";
import type { KeyedBatch } from "../../src/events/keyed-batch.ts";
import type { BlockHasher } from "../../src/keys/block-hasher.ts";
import { Chance } from "./chance.ts";
import type { ChaosContent } from "./chaos-content.ts";
import { ChaosEngine } from "./chaos-engine.ts";
import { HINT_LIFE_MS, MEDIA } from "./chaos-held.ts";
import { batchesOf, ChaosLog, NO_LOG_FAULTS } from "./chaos-log.ts";
import { ChaosRouter, Divergence } from "./chaos-router.ts";
import { ChaosStream, NO_WAY_FAULTS, type WayFaults } from "./chaos-stream.ts";
import { type EngineTraits, engineNameOf } from "./chaos-wire.ts";

export interface HistoryDeps {
  readonly hasher: BlockHasher;
  /** Of MODEL and the hasher's seed; may be shared by histories. */
  readonly content: ChaosContent;
}

export interface HistoryOutcome {
  /** Of what the router held at the end: equal for equal seeds. */
  readonly digest: string;
  /** What went wrong first; null: nothing. */
  readonly problem: string | null;
  /** Times at which EXACT was claimed, and was true. */
  readonly exactClaims: number;
  readonly messages: number;
}

export const MODEL = "model";

export function runHistory(seed: number, deps: HistoryDeps): HistoryOutcome {
  const history = new History(seed, deps);
  let problem: string | null = null;
  try {
    history.run();
  } catch (error) {
    if (!(error instanceof Divergence)) {
      const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
      problem = `threw: ${detail}`;
    } else problem = error.message;
  }
  const { router, messages } = history;
  const digest = createHash("sha256").update(router.contents()).digest("hex").slice(0, 16);
  return { digest, problem, exactClaims: router.exactClaims, messages };
}

class History {
  readonly #chance: Chance;
  readonly #deps: HistoryDeps;
  readonly #streams = new Map<string, ChaosStream>();
  readonly #holders: Holder[] = [];
  /** Null: the relays feed the router directly. */
  readonly #log: ChaosLog | null;
  /** Place of the router's reader, and of what the log has thrown away. */
  #readTo = 0;
  #purgedTo = 0;
  #kept: { readonly router: ReturnType<ChaosRouter["kept"]>; readonly readTo: number };
  #nowMs = 1_700_000_000_000;
  readonly router: ChaosRouter;
  messages = 0;

  constructor(seed: number, deps: HistoryDeps) {
    this.#chance = new Chance(seed);
    this.#deps = deps;
    const chance = this.#chance;
    this.router = new ChaosRouter((holder) => this.#streamOf(holder).engine);
    const rate = (): number => (chance.is(0.5) ? 0 : chance.of([0.02, 0.1, 0.3]));
    this.#log = chance.is(0.5)
      ? new ChaosLog(chance, {
          ...{ drop: rate() / 2, double: rate(), swap: rate() / 2, truncate: rate() / 4 },
        })
      : null;
    const endpoints = chance.between(1, 2);
    for (let endpoint = 0; endpoint < endpoints; endpoint += 1) {
      const traits = traitsOf(chance);
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
    this.#kept = { router: this.router.kept(), readTo: 0 };
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
  }

  #addStream(holder: Holder, shared: Omit<EngineTraits, "rank">, faults: WayFaults): void {
    const { content } = this.#deps;
    const chance = this.#chance;
    const traits = { ...shared, rank: holder.rank };
    const engine = new ChaosEngine(traits, { chance, content, hashSeed: 0 });
    const relay = this.#newRelay(holder, traits);
    const onStep = (step: RelayStep): void => {
      this.#publish(step);
      if (this.#log === null) this.router.checkKnown(holder, this.#streamOf(holder).shown);
    };
    this.#holders.push(holder);
    this.#streams.set(
      holderName(holder),
      new ChaosStream({ engine, relay, chance, faults, onStep }),
    );
  }

  #newRelay(holder: Holder, { bufferMessages, hasConnector }: EngineTraits): HolderRelay {
    const canReplay = bufferMessages !== null;
    // The clock of the relay's machine may have been set back since the one before.
    const nowMs = this.#chance.is(0.3) ? this.#chance.between(1, this.#nowMs) : this.#nowMs;
    const epochFirst = this.#log === null ? 1 : nowMs;
    const { hasher } = this.#deps;
    const deps = { holder, model: MODEL, hasher, canReplay, epochFirst };
    return new HolderRelay({ ...deps, isConnector: hasConnector, hintLifeMs: HINT_LIFE_MS });
  }

  #streamOf(holder: Holder): ChaosStream {
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
    const dice = chance.below(1000);
    if (dice < 450) this.#do(stream);
    else if (dice < 850) stream.step();
    else if (dice < 960) this.#read();
    else if (dice < 968) stream.reconnect({ isLossy: chance.is(0.5) });
    else if (dice < 978) this.#restartEngine(stream);
    else if (dice < 982) this.#restartRouter();
    else if (dice < 985) this.#restartRelays();
    else if (dice < 988 && this.#log !== null) this.#purge(this.#log);
    else if (dice < 991) stream.heal();
    else if (dice < 992) this.#overtake();
    else if (dice < 993) stream.elapsed(this.#nowMs);
    else if (dice < 994) stream.resync();
    else this.#kept = { router: this.router.kept(), readTo: this.#readTo };
  }

  #do(stream: ChaosStream): void {
    const said = stream.engine.step(this.#nowMs);
    if (said === null) return;
    this.messages += 1;
    stream.send(said);
  }

  #say(stream: ChaosStream): void {
    this.#nowMs += 1;
    this.messages += 1;
    stream.send(stream.engine.storeDocument(this.#nowMs));
  }

  #restartEngine(stream: ChaosStream): void {
    stream.engine.restart(this.#chance.below(2));
    stream.engineRestarted();
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

  /** A router that was killed goes on with what it had written last. */
  #restartRouter(): void {
    const { router, readTo } = this.#kept;
    this.router.restart(router);
    this.#readTo = readTo;
    if (this.#log !== null) return;
    for (const holder of this.#holders) {
      const stream = this.#streamOf(holder);
      const relay = this.#newRelay(holder, stream.engine.traits);
      this.router.restoreRelay(relay, MODEL, engineNameOf(stream.engine.traits));
      stream.restarted(relay);
    }
  }

  /** Relays that were killed go on with what the log still has, or with nothing. */
  #restartRelays(): void {
    const log = this.#log;
    if (log === null) return;
    const isLogGone = this.#chance.is(0.2);
    log.relaysKilled();
    for (const holder of this.#holders) {
      this.router.relayForgets(holder);
      const stream = this.#streamOf(holder);
      stream.restarted(this.#newRelay(holder, stream.engine.traits));
    }
    if (isLogGone) return;
    for (const message of log.messages.slice(this.#purgedTo)) {
      for (const batch of batchesOf(message)) this.#streamOf(batch.holder).relay.adopt(batch);
    }
  }

  #purge(log: ChaosLog): void {
    this.#purgedTo = this.#chance.between(this.#purgedTo, log.messages.length);
  }

  /** Nothing goes wrong any more. */
  #calm(): void {
    for (const stream of this.#streams.values()) stream.faults = NO_WAY_FAULTS;
    if (this.#log === null) return;
    this.#accept(this.#log.readLate());
    this.#log.faults = NO_LOG_FAULTS;
  }

  /** Every engine says a word, and is asked again where something is missing. */
  #heal(): void {
    this.#settle();
    for (const stream of this.#streams.values()) this.#say(stream);
    this.#settle();
    this.#overtake();
    this.#settle();
    for (const holder of this.#holders) {
      if (this.router.cursorOf(holder)?.state !== "EXACT") this.#streamOf(holder).heal();
    }
    this.#settle();
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
      const { bufferMessages, isOdd, hasLowerTiers, hasConnector } = engine.traits;
      const isWholeLifeTold = bufferMessages === Number.POSITIVE_INFINITY;
      if (isWholeLifeTold && !isOdd && !hasLowerTiers && !hasConnector)
        this.router.expectExact(holder, "after healing");
      else this.router.checkHealed(holder);
    }
    this.router.checkIndex(this.#holders);
  }
}

/** One, or two of which each has its own copies. */
function someOf(media: readonly string[], chance: Chance): readonly string[] {
  return [...new Set([chance.of(media), chance.of(media)])];
}

function traitsOf(chance: Chance): Omit<EngineTraits, "rank"> {
  const engine = chance.is(0.25) ? "sglang" : "vllm";
  const hashForms = ["unsigned", "signed", "bytes32", "bytes16"] as const;
  const fullGroups = engine === "vllm" && chance.is(0.3) ? [0, 2] : [0];
  const hasConnector = engine === "vllm" && chance.is(0.2);
  // Groups of full attention have blocks of one size.
  const blockSizes = chance.of([[1], [2], [16], [4], fullGroups.length > 1 ? [8] : [4, 8]]);
  return {
    engine,
    encodings: chance.of([["array"], ["map"], ["array", "map"]]),
    hashForms: chance.is(0.5) ? [chance.of(hashForms)] : hashForms,
    areExtrasTold: engine === "sglang" || chance.is(0.85),
    blockSizes,
    hasLowerTiers: !hasConnector && chance.is(0.3),
    hasConnector,
    media: MEDIA.map((media, tier) => (tier === 0 ? media : someOf(media, chance))),
    fullGroups,
    isHybrid: engine === "vllm" && chance.is(0.3),
    isOdd: chance.is(0.15),
    bufferMessages: chance.of([null, 5, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]),
  };
}
