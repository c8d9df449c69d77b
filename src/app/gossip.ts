/** Routers of one pool and model that tell each other what they dispatch. */
import type { Config } from "../config/schema.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Random } from "../core/random.ts";
import { subjectToken } from "../core/subject-token.ts";
import type { Fleet } from "../fleet/fleet.ts";
import { NatsGossip } from "../fleet/nats-gossip.ts";
import { shareLine } from "../fleet/peer-loads.ts";

export interface Gossip {
  /** Something was dispatched. */
  readonly changed: () => void;
  /** For people: whom it reaches. */
  readonly detail: () => string;
  readonly stop: () => Promise<void>;
}

export interface GossipDeps {
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly meter: Meter;
}

const NO_GOSSIP: Gossip = {
  changed: (): void => {},
  detail: (): string => "off",
  stop: (): Promise<void> => Promise.resolve(),
};

export function startGossip(config: Config, deps: GossipDeps): Gossip {
  if (config.events.transport !== "nats" || !config.fleet.isGossipOn) return NO_GOSSIP;
  const { fleet, clock, random, meter } = deps;
  const { peers } = fleet;
  const name = Math.floor(random.next() * 2 ** 48).toString(16);
  const gossip = new NatsGossip({
    ...deps,
    servers: config.events.nats.servers,
    subject: `kvatlas.gossip.${subjectToken(`${config.pool}:${config.model}`)}`,
    line: (): string => {
      const nowMs = clock.nowMs();
      peers.expire(nowMs);
      meter.gauge("kvatlas_gossip_peers", {}, peers.size);
      const { endpoints } = fleet.view(nowMs);
      return shareLine(
        { peer: name, prompts: peers.prompts.takeText() },
        endpoints.map(({ spec, load }) => [spec.id, load]),
        nowMs,
      );
    },
    receive: (line): string | null => peers.receive(line, clock.nowMs()),
  });
  return {
    changed: () => gossip.changed(),
    detail: () =>
      gossip.isConnected
        ? `${peers.size} other routers are heard`
        : "DEGRADED: NATS is not connected, this router decides by its own dispatches",
    stop: () => gossip.stop(),
  };
}
