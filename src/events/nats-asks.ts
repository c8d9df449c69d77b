/**
 * What readers of the log ask of the relays, over NATS core: to have an engine tell its life again.
 *
 * A message that the log has lost is unknown to the relay that published it, and only the engine can
 * tell it again. An ask that is lost is repeated as long as its reason stands; one that is heard twice,
 * or by relays of other endpoints, changes nothing.
 */
import type { NatsConnection } from "@nats-io/transport-node";
import { z } from "zod";
import { type Clock, sleep } from "../core/clock.ts";
import { endpointId, type Holder, holderName, isEndpointAddress, RANK_MAX } from "../core/ids.ts";
import type { Meter } from "../core/meter.ts";
import { subjectToken } from "../core/subject-token.ts";
import type { Residency } from "../indexer/residency.ts";
import { isHealable } from "./loss-rank.ts";

/** Between two asks for the same holder, ms. */
export const ASK_MS = 2000;
/** Epochs beyond are nobody's: they begin with a time in seconds and count lives. */
const EPOCH_MAX = 4_503_599_627_370_496;

/**
 * - heal: something is missing; what is known stays in use until the engine tells its life again
 * - resync: what is known is wrong, and is given up
 * - overtake: what the relay says is of an earlier epoch, and fenced off: it has to begin a later one. A
 *   relay that finds nothing of its holders begins with the time, and its clock may have been set back.
 */
export interface HolderAsk {
  readonly how: "heal" | "resync" | "overtake";
  readonly holder: Holder;
  /** That the reader knows: an ask about another one is out of date. */
  readonly epoch: number;
}

const askSchema = z.strictObject({
  how: z.enum(["heal", "resync", "overtake"]),
  endpoint: z.string().refine(isEndpointAddress),
  rank: z.int().min(0).max(RANK_MAX),
  epoch: z.int().min(1).max(EPOCH_MAX),
});

export function publishAsk(
  connection: NatsConnection,
  pool: string,
  { how, holder, epoch }: HolderAsk,
): void {
  const { endpointId: endpoint, rank } = holder;
  connection.publish(askSubject(pool), JSON.stringify({ how, endpoint, rank, epoch }));
}

/** Hands over every ask until the connection is closed. */
export async function hearAsks(
  connection: NatsConnection,
  deps: {
    readonly pool: string;
    readonly onAsk: (ask: HolderAsk) => void;
    readonly meter: Meter;
  },
): Promise<void> {
  for await (const message of connection.subscribe(askSubject(deps.pool))) {
    const ask = parseAsk(message.string());
    if (ask !== null) deps.onAsk(ask);
    else deps.meter.count("kvatlas_events_refused_total", { reason: "malformed-log-message" });
  }
}

/**
 * Asks for every holder that lacks something, again and again while it does. One that is catching up is
 * asked for where it stands still: the log has lost what would have ended it, and the relay knows no more.
 */
export async function askForGaps(deps: {
  readonly residency: Residency;
  readonly ask: (ask: HolderAsk) => void;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { residency, ask, clock, signal } = deps;
  let stoodAt = new Map<string, string>();
  while (!signal.aborted) {
    // First of all: an engine's next message may show that none of its own is missing.
    await sleep(clock, ASK_MS, signal);
    if (signal.aborted) return;
    const standing = new Map<string, string>();
    for (const holder of residency.holders()) {
      const cursor = residency.cursorOf(holder);
      if (cursor?.state !== "DEGRADED") continue;
      const { reason, epoch, seq } = cursor;
      const [name, place] = [holderName(holder), `${epoch}/${seq}`];
      if (reason === "catching-up") standing.set(name, place);
      const isStuck = reason === "catching-up" && stoodAt.get(name) === place;
      if (isStuck || isHealable(reason ?? "")) ask({ how: "heal", holder, epoch });
    }
    stoodAt = standing;
  }
}

function parseAsk(text: string): HolderAsk | null {
  try {
    const { how, endpoint, rank, epoch } = askSchema.parse(JSON.parse(text));
    return { how, holder: { endpointId: endpointId(endpoint), rank }, epoch };
  } catch {
    return null;
  }
}

function askSubject(pool: string): string {
  return `kvatlas.ask.${subjectToken(pool)}`;
}
