/** Gives a new relay what the residency has of its holder, from the store or a snapshot. */
import type { EngineName } from "../core/engine-name.ts";
import type { HolderCursor, Residency } from "../indexer/residency.ts";
import { TIERS, tierOrder } from "../tiers/tier.ts";
import { isConnector } from "./connector-rule.ts";
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
  const areHints = mayHaveHints(engine, cursor);
  for (const [handle, { copies }] of residency.records(holder)) {
    for (const tier of TIERS) {
      const held = tier === "gpu" ? 0 : (copies[tierOrder(tier)] ?? 0);
      if (held > 0 && areHints) relay.restoreHint(tier, handle);
      else if (held > 0) relay.restoreLower(tier, handle, held);
    }
  }
}

/** In a vLLM stream a connector's blocks show by their size, which rows do not have. */
function mayHaveHints(
  engine: EngineName | undefined,
  { reason, blockSizesTokens }: HolderCursor,
): boolean {
  return isConnector(engine) || (!ALONE.has(reason) && blockSizesTokens.length > 1);
}

/** Reasons that stand where nothing else is missing, removals of a connector's blocks neither; null: EXACT. */
const ALONE: ReadonlySet<string | null> = new Set([null, "catching-up", "log-truncated"]);
