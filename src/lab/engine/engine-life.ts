/** One life of a simulated engine: its ranks and its HTTP server, from start to stop. */
import type { Clock } from "../../core/clock.ts";
import { KvError, messageOf } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { BlockHasher } from "./block-hash.ts";
import type { LabEngineOptions } from "./engine-options.ts";
import { type EngineRank, startRanks, stopRanks } from "./engine-rank.ts";
import type { EventFaults } from "./faults.ts";
import { HttpEngine } from "./http-engine.ts";
import { portOf } from "./port-range.ts";

export interface EngineLife {
  readonly options: LabEngineOptions;
  readonly ranks: readonly EngineRank[];
  readonly hasher: BlockHasher;
  readonly http: HttpEngine;
  stop(): Promise<void>;
}

export interface LifeDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** The same object for a rank in every life. */
  readonly faultsOf: (rank: number) => EventFaults;
}

/** Rejects with ERR_PORT_IN_USE when a port cannot be had; nothing is left open then. */
export async function startLife(options: LabEngineOptions, deps: LifeDeps): Promise<EngineLife> {
  const { clock, log } = deps;
  const ranks = await taken(options.kvEventsPort, startRanks(options, deps));
  const hasher = new BlockHasher({
    blockSizeTokens: options.blockSizeTokens,
    seed: options.hashSeed,
  });
  let http: HttpEngine;
  try {
    http = await taken(options.port, HttpEngine.listen(options, { clock, log, hasher, ranks }));
  } catch (reason) {
    await stopRanks(ranks);
    throw reason;
  }
  log.info({ address: http.address, kvEvents: ranks[0]?.publisher.address }, "lab engine: started");
  return {
    options,
    ranks,
    hasher,
    http,
    stop: async (): Promise<void> => {
      for (const { core } of ranks) core.stop();
      await http.stop();
      await stopRanks(ranks);
    },
  };
}

/** The options with the ports that a life has, so that the next one has them too. */
export function withPortsOf(life: EngineLife): LabEngineOptions {
  const { options, ranks, http } = life;
  const [first] = ranks;
  return {
    ...options,
    port: portOf(http.address),
    kvEventsPort:
      first === undefined || options.kvEventsConnect !== null
        ? options.kvEventsPort
        : portOf(first.publisher.address),
    replayPort: first?.replay ? portOf(first.replay.address) : options.replayPort,
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
