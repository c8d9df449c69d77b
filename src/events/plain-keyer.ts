/**
 * Runs of plain events -> keyed events, where they lie in the core's memory (plain-batch.ts).
 *
 * What it does not take is left to the holder's keyer, event by event, which would have said the same of
 * what is taken here.
 */
import type { ConnectorRule } from "./connector-rule.ts";
import type { CopyLanes } from "./copy-lanes.ts";
import type { GroupRule } from "./group-rule.ts";
import type { HandleMap } from "./handle-map.ts";
import type { KeyClaims } from "./key-claims.ts";
import type { KeyedEvent } from "./keyed-batch.ts";
import type { KvEventBatch } from "./kv-event.ts";
import type { LeftOutCounts } from "./left-out.ts";
import type { Orphans } from "./orphans.ts";
import { PlainBatch, type PlainRun, plainRun, wholeEvents } from "./plain-batch.ts";
import type { StoreOutlet } from "./store-outlet.ts";

interface PlainKeyerDeps {
  readonly handles: HandleMap;
  readonly claims: KeyClaims;
  readonly orphans: Orphans;
  readonly groups: GroupRule;
  readonly leftOut: LeftOutCounts;
  readonly lanes: CopyLanes;
  readonly rule: ConnectorRule;
  readonly outlet: StoreOutlet;
}

export class PlainKeyer {
  readonly #deps: PlainKeyerDeps;

  constructor(deps: PlainKeyerDeps) {
    this.#deps = deps;
  }

  /** Keys the first events of a message; returns the number of the first that is left, null: none is. */
  key(batch: KvEventBatch, keyed: KeyedEvent[]): number | null {
    if (!(batch instanceof PlainBatch) || this.#deps.orphans.size > 0) return 0;
    const runs = batch.takeRuns();
    if (runs === 0) return 0;
    for (let number = 0; number < runs; number += 1) {
      const run = plainRun(number);
      const done = run.isStored ? this.#keyStores(run, keyed) : this.#keyRemovals(run, keyed);
      if (done < run.events) return run.first + done;
    }
    return null;
  }

  /** Returns how many events are keyed. */
  #keyStores(run: PlainRun, keyed: KeyedEvent[]): number {
    const { claims, handles, leftOut, outlet, rule } = this.#deps;
    if (!claims.findParents(run)) return 0;
    // Of no identity, and so none that ends hints without one.
    rule.noteOwn(run);
    const group = outlet.groupOf(run, keyed);
    if (group === undefined) {
      for (let event = 1; event < run.events; event += 1) leftOut.count("other-group");
      return run.events;
    }
    const added = claims.claimRun(run);
    const claimed = handles.claimedRun(run);
    const place = { tier: "gpu", medium: run.medium, group, isHint: false } as const;
    if (added === run.blocks) {
      outlet.tell(claimed, place, keyed);
      return run.events;
    }
    const { events, blocks } = wholeEvents(run, added);
    if (events > 0) outlet.tell(claimed.first(blocks), place, keyed);
    outlet.tell(null, place, keyed);
    return events + 1;
  }

  #keyRemovals(run: PlainRun, keyed: KeyedEvent[]): number {
    const { groups, handles, lanes, leftOut } = this.#deps;
    if (!lanes.isOne) return 0;
    if (groups.groupOfRemoved(run.group) === undefined) leftOut.count("other-group");
    else {
      const { handles: removed, rows } = handles.removeRun(run);
      keyed.push({ type: "removed", tier: "gpu", handles: removed, rows });
    }
    return run.events;
  }
}
