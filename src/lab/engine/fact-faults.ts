/** Faults in what an engine tells: removals too many, events of the future. */
import type { Random } from "../../core/random.ts";
import { DIGEST_BYTES } from "./block-hash.ts";
import type { EngineFact } from "./engine-facts.ts";
import type { FaultSwitches } from "./fault-switches.ts";
import { randomBytes } from "./message-damage.ts";

export function withFactFaults(
  facts: readonly EngineFact[],
  switches: FaultSwitches,
  random: Random,
): readonly EngineFact[] {
  const { isRemovalDoubled, isUnknownRemoved, hasUnknownEvents } = switches;
  if (!isRemovalDoubled && !isUnknownRemoved && !hasUnknownEvents) return facts;
  const told: EngineFact[] = [];
  if (isUnknownRemoved) {
    told.push({ kind: "removed_unknown", digest: randomBytes(random, DIGEST_BYTES) });
  }
  for (const fact of facts) {
    told.push(fact);
    if (isRemovalDoubled && fact.kind === "removed") told.push(fact);
  }
  if (hasUnknownEvents) told.push({ kind: "unknown_event" });
  return told;
}
