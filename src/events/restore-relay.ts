/** Gives a new relay what the residency has of its holder, from the store or a snapshot. */
import type { EngineName } from "../core/engine-name.ts";
import type { Residency } from "../indexer/residency.ts";
import { TIERS, tierOrder } from "../tiers/tier.ts";
import { HINTS_TOLD, isConnector } from "./connector-rule.ts";
import type { HolderRelay } from "./holder-relay.ts";

export interface RestoredSource {
  readonly engine?: EngineName;
  readonly model: string;
}

export function restoreRelay(
  relay: HolderRelay,
  residency: Residency,
  { engine, model }: RestoredSource,
): void {
  const { holder } = relay;
  const cursor = residency.cursorOf(holder);
  if (cursor === null) return;
  relay.restoreCursor(cursor);
  if (cursor.model !== model) return;
  for (const held of residency.heldRows(holder)) relay.restoreHandles(held, held.copies);
  if (!residency.hasSeenLowerTiers(holder)) return;
  const areHints = isConnector(engine) || cursor.lanes?.includes(HINTS_TOLD) === true;
  for (const [handle, { copies }] of residency.records(holder)) {
    for (const tier of TIERS) {
      const held = tier === "gpu" ? 0 : (copies[tierOrder(tier)] ?? 0);
      if (held > 0 && areHints) relay.restoreHint(tier, handle);
      else if (held > 0) relay.restoreLower(tier, handle, held);
    }
  }
}
