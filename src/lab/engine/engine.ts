/**
 * A simulated engine as a whole: HTTP server, scheduler, block pool and KV event publisher.
 *
 * It takes nothing from the modules that it tests: what it holds is told by its own pool.
 */
import { assert } from "../../core/assert.ts";
import type { Clock } from "../../core/clock.ts";
import { KvError, messageOf } from "../../core/errors.ts";
import { type Log, silentLog } from "../../core/log.ts";
import { BlockChain } from "./block-chain.ts";
import { BlockHasher, type CacheIdentity, PLAIN_IDENTITY } from "./block-hash.ts";
import { EngineCore } from "./engine-core.ts";
import { LAB_ENGINE_DEFAULTS, type LabEngineOptions } from "./engine-options.ts";
import { EventEncoder } from "./event-encoding.ts";
import { HttpEngine } from "./http-engine.ts";
import { TtftHistogram } from "./vllm-metrics.ts";
import { ZmqPublisher } from "./zmq-publisher.ts";

/** The truth about one physical block in the prefix cache; copies are entries of their own. */
export interface CachedBlock {
  /** The hash as the events carry it: low 64 bits. */
  readonly engineHash: bigint;
  /** Every token from the start of the prompt to the end of this block. A view, not a copy. */
  readonly prefixTokens: Uint32Array;
  readonly loraName: string | null;
  readonly cacheSalt: string | null;
}

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
  /** "tcp://127.0.0.1:port" of the KV events. */
  readonly kvEventsAddress: string;
  readonly options: LabEngineOptions;
  /** What the prefix cache holds. Ahead of the events while a step or a reset is unpublished. */
  cachedBlocks(): readonly CachedBlock[];
  /** Sequence number of the newest published batch; -1 before the first. */
  publishedSeq(): number;
  /** Open ZMQ subscriptions. */
  subscriptions(): number;
  /** Evicts and publishes every cached block that no request references; returns how many. */
  evictAll(): number;
  /** The same for all copies of the full blocks of these tokens; longer prompts keep the rest. */
  evictPrefix(tokens: Uint32Array, identity?: CacheIdentity): number;
  stats(): LabEngineStats;
  /** Aborts what runs, sends queued events, closes both ports. */
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
  assert(options.blockSizeTokens >= 1 && options.chunkTokens >= 1 && options.maxSeqs >= 1, "sizes");
  const log = deps.log ?? silentLog;
  const { clock } = deps;
  const publisher = await taken(
    options.kvEventsPort,
    ZmqPublisher.bind({ port: options.kvEventsPort, topic: options.topic }, log),
  );
  const encoder = new EventEncoder(options);
  const core = new EngineCore(options, {
    clock,
    nextTurn: setImmediate,
    publish: (facts): void => publisher.publish(encoder.batch(clock.wallMs() / 1000, facts)),
  });
  const hasher = new BlockHasher({
    blockSizeTokens: options.blockSizeTokens,
    seed: options.hashSeed,
  });
  let http: HttpEngine;
  try {
    http = await taken(
      options.port,
      HttpEngine.listen(options, {
        clock,
        log,
        core,
        hasher,
        ttft: new TtftHistogram(),
        publishedSeq: () => publisher.publishedSeq,
      }),
    );
  } catch (reason) {
    await publisher.stop();
    throw reason;
  }
  log.info({ address: http.address, kvEvents: publisher.address }, "lab engine: started");
  return engineOf({ options, core, hasher, http, publisher });
}

interface Parts {
  readonly options: LabEngineOptions;
  readonly core: EngineCore;
  readonly hasher: BlockHasher;
  readonly http: HttpEngine;
  readonly publisher: ZmqPublisher;
}

function engineOf(parts: Parts): LabEngine {
  const { core, hasher, http, options, publisher } = parts;
  return {
    address: http.address,
    kvEventsAddress: publisher.address,
    options,
    cachedBlocks: () =>
      core.pool.contents().map(({ chain, depth }) => ({
        engineHash: chain.hashAt(depth),
        prefixTokens: chain.tokens(0, (depth + 1) * chain.blockSizeTokens),
        loraName: chain.identity.loraName,
        cacheSalt: chain.identity.cacheSalt,
      })),
    publishedSeq: () => publisher.publishedSeq,
    subscriptions: () => publisher.subscriptions,
    evictAll: (): number => {
      const evicted = core.pool.evictUnreferenced();
      core.flushFacts();
      return evicted;
    },
    evictPrefix: (tokens, identity = PLAIN_IDENTITY): number => {
      const chain = new BlockChain(hasher, { identity, prompt: tokens, outputTokensMax: 0 });
      const evicted = core.pool.evictChain(chain);
      core.flushFacts();
      return evicted;
    },
    stats: () => ({
      ...core.totals,
      waiting: core.waiting,
      running: core.running,
      droppedBatches: publisher.droppedBatches,
    }),
    stop: async (): Promise<void> => {
      core.stop();
      await http.stop();
      await publisher.stop();
    },
  };
}

async function taken<Value>(port: number, listening: Promise<Value>): Promise<Value> {
  try {
    return await listening;
  } catch (reason) {
    throw new KvError("ERR_PORT_IN_USE", `lab engine: port ${port}: ${messageOf(reason)}`, {
      cause: reason,
    });
  }
}
