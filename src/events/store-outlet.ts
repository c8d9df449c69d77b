/** What is told of stores whose blocks are in the handle map: for which group they count, and where they lie. */
import type { CopyLanes, LanePlace } from "./copy-lanes.ts";
import type { GroupedStore, GroupRule } from "./group-rule.ts";
import type { HandleMap } from "./handle-map.ts";
import { type KeyedEvent, type KeyedStored, lost } from "./keyed-batch.ts";
import type { LeftOutCounts } from "./left-out.ts";

interface StoreOutletDeps {
  readonly handles: HandleMap;
  readonly groups: GroupRule;
  readonly lanes: CopyLanes;
  readonly leftOut: LeftOutCounts;
}

export class StoreOutlet {
  readonly #deps: StoreOutletDeps;

  constructor(deps: StoreOutletDeps) {
    this.#deps = deps;
  }

  /** The full group that it is counted for, null: the one; undefined: its blocks make no prefix. */
  groupOf(event: GroupedStore, keyed: KeyedEvent[]): number | null | undefined {
    const { groups, lanes, leftOut } = this.#deps;
    const { group } = event;
    const place = groups.placeOfStored(event);
    if (place.is === "left-out") {
      leftOut.count("other-group");
      if (place.isNews && group !== null) keyed.push({ type: "ignored-group", group });
      return undefined;
    }
    if (place.isUnclear) keyed.push(lost("several-groups"));
    if (place.is === "one") return null;
    if (place.isNews) lanes.setApart(groups.apart, keyed);
    return place.group;
  }

  /** Tells of blocks; null: there was no room for all of them. */
  tell(stored: KeyedStored | null, place: LanePlace, keyed: KeyedEvent[]): void {
    const shared = this.#deps.handles.takeShared();
    if (shared.length > 0) keyed.push({ type: "ambiguous", keys: BigUint64Array.from(shared) });
    if (stored === null) keyed.push(lost("handles-full"));
    else if (stored.span !== undefined || stored.handles.length > 0) {
      if (place.isHint) keyed.push(stored);
      else this.#deps.lanes.stored(place, stored, keyed);
    }
  }
}
