/**
 * A simulated engine as a whole: HTTP server, schedulers, block pools and KV event publishers.
 *
 * It takes nothing from the modules that it tests: what it holds is told by its own pools.
 */
import { assert } from "../../core/assert.ts";
import { type Clock, sleep } from "../../core/clock.ts";
import { type Log, silentLog } from "../../core/log.ts";
import { BlockChain } from "./block-chain.ts";
import { type CacheIdentity, PLAIN_IDENTITY } from "./block-hash.ts";
import { type CachedBlock, cachedBlocksOf } from "./cached-block.ts";
import { type EngineLife, startLife, withPortsOf } from "./engine-life.ts";
import { LAB_ENGINE_DEFAULTS, type LabEngineOptions } from "./engine-options.ts";
import type { EngineRank } from "./engine-rank.ts";
import { EventFaults } from "./faults.ts";

export type { CachedBlock } from "./cached-block.ts";

/** Sockets close in the background: how often, and after how long, a restart asks for its ports. */
const RESTART_TRIES_MAX = 100;
const RESTART_RETRY_MS = 20;

/** Sums over the ranks. */
export interface LabEngineStats {
  /** Requests accepted since the start. */
  readonly requests: number;
  readonly finished: number;
  readonly aborted: number;
  /** Of started requests. */
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly waiting: number;
  readonly running: number;
  /** Batches that did not go out; each is a gap in the sequence. */
  readonly droppedBatches: number;
}

export interface LabEngine {
  /** "127.0.0.1:port" of the HTTP server. */
  readonly address: string;
  /** "tcp://127.0.0.1:port" of rank 0's KV events, rank r at port + r; where it connects to, if so. */
  readonly kvEventsAddress: string;
  /** "tcp://127.0.0.1:port" of rank 0's replay socket, rank r at port + r; null without one. */
  readonly replayAddress: string | null;
  /** Those of the present life. */
  readonly options: LabEngineOptions;
  /** What goes wrong with the KV events of rank 0. */
  readonly faults: EventFaults;
  /** The same for any rank. */
  faultsOf(rank: number): EventFaults;
  /**
   * What the caches hold, of all ranks or of one. Ahead of the events while a step or a reset is
   * unpublished.
   */
  cachedBlocks(rank?: number): readonly CachedBlock[];
  /** Sequence number of the newest published batch of a rank (default 0); -1 before the first. */
  publishedSeq(rank?: number): number;
  /** Open ZMQ subscriptions of a rank; without one, those of the rank that has the fewest. */
  subscriptions(rank?: number): number;
  /** Evicts and publishes every GPU block that no request references; returns how many. */
  evictAll(): number;
  /** The same for all copies of the full blocks of these tokens; longer prompts keep the rest. */
  evictPrefix(tokens: Uint32Array, identity?: CacheIdentity): number;
  stats(): LabEngineStats;
  /**
   * A new life on the same ports: nothing cached, counters and sequence from the beginning, what runs
   * is aborted, connections end, no event tells of it. Other options may change; ports that are
   * bound may not.
   */
  restart(changes?: Partial<LabEngineOptions>): Promise<void>;
  /** Aborts what runs, sends queued events, closes all ports. */
  stop(): Promise<void>;
}

export interface LabEngineDeps {
  readonly clock: Clock;
  readonly log?: Log;
}

/** Starts an engine; rejects with ERR_PORT_IN_USE when one of its ports cannot be had. */
export async function startLabEngine(
  partial: Partial<LabEngineOptions>,
  deps: LabEngineDeps,
): Promise<LabEngine> {
  const options: LabEngineOptions = { ...LAB_ENGINE_DEFAULTS, ...partial };
  checkOptions(options);
  const faults: EventFaults[] = [];
  const faultsOf = (rank: number): EventFaults => {
    const known = faults[rank] ?? new EventFaults(options.faultSeed + rank);
    faults[rank] = known;
    return known;
  };
  const lifeDeps = { clock: deps.clock, log: deps.log ?? silentLog, faultsOf };
  let life = await startLife(options, lifeDeps);
  return engineOf(
    () => life,
    faultsOf,
    async (changes) => {
      const { port, kvEventsPort, replayPort, ...kept } = withPortsOf(life);
      const next = {
        ...kept,
        ...changes,
        port,
        kvEventsPort,
        replayPort: replayPort ?? changes.replayPort ?? null,
      };
      checkOptions(next);
      await life.stop();
      life = await startAgain(next, lifeDeps);
    },
  );
}

function engineOf(
  life: () => EngineLife,
  faultsOf: (rank: number) => EventFaults,
  restart: (changes: Partial<LabEngineOptions>) => Promise<void>,
): LabEngine {
  const rankOf = (rank: number): EngineRank => {
    const found = life().ranks[rank];
    assert(found !== undefined, "no such rank", { rank });
    return found;
  };
  return {
    get address(): string {
      return life().http.address;
    },
    get kvEventsAddress(): string {
      return rankOf(0).publisher.address;
    },
    get replayAddress(): string | null {
      return rankOf(0).replay?.address ?? null;
    },
    get options(): LabEngineOptions {
      return life().options;
    },
    faults: faultsOf(0),
    faultsOf: (rank): EventFaults => {
      assert(life().ranks[rank] !== undefined, "no such rank", { rank });
      return faultsOf(rank);
    },
    cachedBlocks: (rank) =>
      rank === undefined
        ? life().ranks.flatMap((one, index) => cachedBlocksOf(one, index))
        : cachedBlocksOf(rankOf(rank), rank),
    publishedSeq: (rank = 0) => rankOf(rank).publisher.publishedSeq,
    subscriptions: (rank) =>
      rank === undefined
        ? Math.min(...life().ranks.map(({ publisher }) => publisher.subscriptions))
        : rankOf(rank).publisher.subscriptions,
    evictAll: () => evict(life(), ({ core }) => core.pool.evictUnreferenced()),
    evictPrefix: (tokens, identity = PLAIN_IDENTITY): number => {
      const chain = new BlockChain(life().hasher, { identity, prompt: tokens, outputTokensMax: 0 });
      return evict(life(), ({ core }) => core.pool.evictChain(chain));
    },
    stats: () => statsOf(life().ranks),
    restart: (changes = {}) => restart(changes),
    stop: () => life().stop(),
  };
}

/** Lets every rank evict, and publishes it. */
function evict(life: EngineLife, evictFrom: (rank: EngineRank) => number): number {
  let evicted = 0;
  for (const rank of life.ranks) {
    evicted += evictFrom(rank);
    rank.core.flushFacts();
  }
  return evicted;
}

function statsOf(ranks: readonly EngineRank[]): LabEngineStats {
  const sum = (count: (rank: EngineRank) => number): number =>
    ranks.reduce((total, rank) => total + count(rank), 0);
  return {
    requests: sum(({ core }) => core.totals.requests),
    finished: sum(({ core }) => core.totals.finished),
    aborted: sum(({ core }) => core.totals.aborted),
    promptTokens: sum(({ core }) => core.totals.promptTokens),
    cachedTokens: sum(({ core }) => core.totals.cachedTokens),
    waiting: sum(({ core }) => core.waiting),
    running: sum(({ core }) => core.running),
    droppedBatches: sum(({ publisher }) => publisher.droppedBatches),
  };
}

async function startAgain(
  options: LabEngineOptions,
  deps: Parameters<typeof startLife>[1],
): Promise<EngineLife> {
  for (let tries = 1; tries < RESTART_TRIES_MAX; tries++) {
    try {
      return await startLife(options, deps);
    } catch {
      await sleep(deps.clock, RESTART_RETRY_MS, NEVER);
    }
  }
  return startLife(options, deps);
}

const NEVER: AbortSignal = new AbortController().signal;

function checkOptions(options: LabEngineOptions): void {
  assert(options.blockSizeTokens >= 1 && options.chunkTokens >= 1 && options.maxSeqs >= 1, "sizes");
  assert(options.ranks >= 1 && options.bufferSteps >= 1, "ranks and buffer", {
    ranks: options.ranks,
    bufferSteps: options.bufferSteps,
  });
}
