/** One data-parallel rank: a scheduler with its own blocks, its own publisher and replay socket. */
import type { Clock } from "../../core/clock.ts";
import type { Log } from "../../core/log.ts";
import { CacheTiers } from "./cache-tiers.ts";
import { EngineCore } from "./engine-core.ts";
import type { LabEngineOptions } from "./engine-options.ts";
import { EventEncoder } from "./event-encoding.ts";
import type { EventFaults } from "./faults.ts";
import { bindRange, rankAddress } from "./port-range.ts";
import { ReplayBuffer } from "./replay-buffer.ts";
import { TtftHistogram } from "./vllm-metrics.ts";
import { ZmqPublisher } from "./zmq-publisher.ts";
import { ZmqReplay } from "./zmq-replay.ts";

export interface EngineRank {
  readonly core: EngineCore;
  readonly tiers: CacheTiers;
  readonly publisher: ZmqPublisher;
  readonly replay: ZmqReplay | null;
  readonly ttft: TtftHistogram;
}

export interface RankDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly faultsOf: (rank: number) => EventFaults;
}

/** Starts all ranks of an engine; rejects with the socket's error when a port is taken. */
export async function startRanks(
  options: LabEngineOptions,
  deps: RankDeps,
): Promise<readonly EngineRank[]> {
  const buffers = Array.from({ length: options.ranks }, () =>
    options.replayPort === null ? null : new ReplayBuffer(options.bufferSteps),
  );
  const publishers = await startPublishers(options, deps, buffers);
  let replays: readonly ZmqReplay[];
  try {
    replays = await startReplays(options, deps, buffers);
  } catch (reason) {
    await Promise.all(publishers.map((publisher) => publisher.stop()));
    throw reason;
  }
  return publishers.map((publisher, rank) => {
    const faults = deps.faultsOf(rank);
    const dataParallelRank = options.dataParallelRank + rank;
    const encoder = new EventEncoder({ ...options, dataParallelRank }, options);
    const tiers = new CacheTiers(options);
    const core = new EngineCore(options, {
      clock: deps.clock,
      nextTurn: setImmediate,
      tiers,
      areHitsReported: () => faults.switches.areHitsReported,
      publish: (facts): void =>
        publisher.publish(
          encoder.batch(deps.clock.wallMs() / 1000, faults.told(facts), faults.switches),
        ),
    });
    return { core, tiers, publisher, replay: replays[rank] ?? null, ttft: new TtftHistogram() };
  });
}

/** Aborts what runs; ends with the events sent and the sockets closed. */
export async function stopRanks(ranks: readonly EngineRank[]): Promise<void> {
  await Promise.all(ranks.map(({ publisher }) => publisher.stop()));
  await Promise.all(ranks.map(({ replay }) => replay?.stop()));
}

async function startPublishers(
  options: LabEngineOptions,
  deps: RankDeps,
  buffers: readonly (ReplayBuffer | null)[],
): Promise<readonly ZmqPublisher[]> {
  const { topic, kvEventsConnect } = options;
  const partsOf = (rank: number): { faults: EventFaults; buffer: ReplayBuffer | null } => ({
    faults: deps.faultsOf(rank),
    buffer: buffers[rank] ?? null,
  });
  if (kvEventsConnect !== null) {
    return buffers.map((_, rank) => {
      const address = rankAddress(kvEventsConnect, rank);
      return ZmqPublisher.connect({ address, topic }, deps.log, partsOf(rank));
    });
  }
  const range = { port: options.kvEventsPort, count: options.ranks };
  return bindRange(range, (port, rank) =>
    ZmqPublisher.bind({ port, topic }, deps.log, partsOf(rank)),
  );
}

async function startReplays(
  options: LabEngineOptions,
  deps: RankDeps,
  buffers: readonly (ReplayBuffer | null)[],
): Promise<readonly ZmqReplay[]> {
  const { replayPort, replayForm: form, topic } = options;
  if (replayPort === null) return [];
  return bindRange({ port: replayPort, count: options.ranks }, (port, rank) => {
    const buffer = buffers[rank] ?? new ReplayBuffer(options.bufferSteps);
    return ZmqReplay.bind({ port, form, topic }, { buffer, log: deps.log });
  });
}
