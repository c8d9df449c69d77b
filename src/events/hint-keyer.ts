/** A connector's stores -> keyed events: hints of bounded life, and their ends. Pure. */
import { type Tier, tierOfMedium } from "../tiers/tier.ts";
import { type ConnectorRule, HINTS_TOLD, IDENTITIES_TOLD } from "./connector-rule.ts";
import type { CopyLanes } from "./copy-lanes.ts";
import type { HandleMap } from "./handle-map.ts";
import type { EndedHints, Hints } from "./hints.ts";
import { type KeyedEvent, lost } from "./keyed-batch.ts";
import type { BlockStored } from "./kv-event.ts";
import type { StoreKeyer } from "./store-keyer.ts";
import type { StoreOutlet } from "./store-outlet.ts";

interface HintKeyerDeps {
  readonly handles: HandleMap;
  readonly hints: Hints;
  readonly lanes: CopyLanes;
  readonly rule: ConnectorRule;
  readonly outlet: StoreOutlet;
  readonly stores: StoreKeyer;
}

export class HintKeyer {
  readonly #deps: HintKeyerDeps;

  constructor(deps: HintKeyerDeps) {
    this.#deps = deps;
  }

  /** A set: said again, it lives longer, and is no second copy. `nowMs`: the engine's time. */
  key(event: BlockStored, nowMs: number, keyed: KeyedEvent[]): void {
    const { hints, outlet, rule } = this.#deps;
    if (outlet.groupOf(event, keyed) === undefined) return;
    if (rule.noteHint()) keyed.push({ type: "lane", name: HINTS_TOLD });
    keyed.push(lost("no-removals"));
    const tier = tierOfMedium(event.medium);
    if (tier === "unknown") {
      keyed.push(lost("unknown-tier"));
      return;
    }
    const said = new Set(event.handles);
    const placing = said.size < event.handles.length ? "none" : rule.placing(event);
    if (placing === "none") return;
    const isKnown = (handle: bigint): boolean => hints.has(tier, handle);
    if (event.handles.every(isKnown)) {
      for (const handle of event.handles) hints.add(tier, handle, nowMs);
      return;
    }
    const known = event.handles.filter(isKnown);
    for (const handle of known) hints.delete(tier, handle);
    if (known.length > 0) keyed.push(...this.#removalsOf([{ tier, handles: known }]));
    this.#place(event, { tier, said, placing, nowMs }, keyed);
    const excess = this.#removalsOf(hints.takeExcess());
    if (excess.length > 0) keyed.push(...excess, lost("hints-full"));
  }

  /** A store of the engine itself: the first that tells of an identity ends the hints without one. */
  noteOwn(event: BlockStored, keyed: KeyedEvent[]): void {
    const { hints, rule } = this.#deps;
    if (!rule.noteOwn(event)) return;
    keyed.push({ type: "lane", name: IDENTITIES_TOLD }, ...this.#removalsOf(hints.takeAll()));
  }

  /** Ends those whose life is over. */
  ended(nowMs: number): KeyedEvent[] {
    const { hints } = this.#deps;
    return hints.size === 0 ? [] : this.#removalsOf(hints.takeEnded(nowMs));
  }

  /** The same, said aside. */
  endedAside(nowMs: number): KeyedEvent[] {
    return this.#removalsOf(this.#deps.hints.takeEndedAside(nowMs));
  }

  /** Ends that were said aside, once more. What is said aside, and lost, nobody misses. */
  takeSaidAside(): KeyedEvent[] {
    const { hints, lanes } = this.#deps;
    const saidAside = hints.takeSaidAside();
    // Of most messages.
    if (saidAside.length === 0) return [];
    return saidAside.flatMap(({ tier, handles }): KeyedEvent[] => {
      const isGone = (each: bigint): boolean =>
        !hints.has(tier, each) && lanes.copies(tier, each) === 0;
      const gone = handles.filter(isGone);
      return gone.length > 0 ? [{ type: "removed", tier, handles: gone }] : [];
    });
  }

  #place(
    event: BlockStored,
    hint: {
      readonly tier: Exclude<Tier, "unknown">;
      readonly said: ReadonlySet<bigint>;
      readonly placing: "handles" | "tokens";
      readonly nowMs: number;
    },
    keyed: KeyedEvent[],
  ): void {
    const { hints, stores } = this.#deps;
    const { tier, said, placing, nowMs } = hint;
    const before = keyed.length;
    const place = { tier, medium: event.medium, group: null, isHint: true };
    if (placing === "handles") stores.placeByHandle(event, place, keyed);
    else stores.placeByTokens(event, place, keyed);
    for (const stored of keyed.slice(before)) {
      if (stored.type !== "stored" || stored.tier !== tier) continue;
      // Orphans that it brought home have their own say.
      for (const handle of stored.handles) if (said.has(handle)) hints.add(tier, handle, nowMs);
    }
  }

  #removalsOf(ended: readonly EndedHints[]): KeyedEvent[] {
    return ended.map(({ tier, handles }) => {
      const rows = this.#deps.handles.removeAll(handles);
      return { type: "removed", tier, handles, rows };
    });
  }
}
