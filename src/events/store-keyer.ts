/**
 * Stores -> keyed stores: by their tokens, or, where they say none, by handles that are known.
 *
 * Pure. What waited for a stored block is handed on right behind it.
 */
import { type BlockKey, engineKey } from "../core/ids.ts";
import { tierOfMedium } from "../tiers/tier.ts";
import type { LanePlace } from "./copy-lanes.ts";
import type { HandleMap } from "./handle-map.ts";
import { IdentityRule } from "./identity-rule.ts";
import { firstOf, type KeyClaims } from "./key-claims.ts";
import { type KeyedEvent, type KeyedStored, lost } from "./keyed-batch.ts";
import type { BlockRemoved, BlockStored } from "./kv-event.ts";
import type { LeftOutCounts } from "./left-out.ts";
import type { Orphans } from "./orphans.ts";
import type { StoreOutlet } from "./store-outlet.ts";
import { joinedHandles } from "./store-runs.ts";
import { extrasOfStored } from "./stored-extras.ts";

interface StoreKeyerDeps {
  readonly handles: HandleMap;
  readonly claims: KeyClaims;
  readonly orphans: Orphans;
  readonly leftOut: LeftOutCounts;
  readonly outlet: StoreOutlet;
  /** Keys what waited. */
  readonly keyWaiting: (event: BlockStored | BlockRemoved, keyed: KeyedEvent[]) => void;
}

export class StoreKeyer {
  readonly #deps: StoreKeyerDeps;
  readonly #identities = new IdentityRule();
  /** What waited for blocks that are stored by now, and is keyed one behind the other: a chain may be long. */
  readonly #arrived: (BlockStored | BlockRemoved)[] = [];

  constructor(deps: StoreKeyerDeps) {
    this.#deps = deps;
  }

  /** An earlier relay knew the engine's stores. */
  setIdentitiesTold(): void {
    this.#identities.setTold();
  }

  clear(): void {
    this.#identities.clear();
    this.#arrived.length = 0;
  }

  /** A store of the engine itself. */
  key(event: BlockStored, keyed: KeyedEvent[]): void {
    this.#identities.note(event);
    const group = this.#deps.outlet.groupOf(event, keyed);
    if (group === undefined) return;
    const { medium } = event;
    const tier = tierOfMedium(medium);
    if (tier === "unknown") {
      keyed.push(lost("unknown-tier"));
      return;
    }
    const place = { tier, medium, group, isHint: false };
    if (this.#identities.isByHandle(event, (handle) => this.#keyOf(handle) !== null))
      this.placeByHandle(event, place, keyed);
    else this.placeByTokens(event, place, keyed);
  }

  /** A run of stores (store-runs.ts), while no store waits. Returns how many of them are keyed. */
  keyRun(run: readonly BlockStored[], keyed: KeyedEvent[]): number {
    const { claims, outlet } = this.#deps;
    const [first] = run;
    const tier = tierOfMedium(first?.medium ?? null);
    if (first === undefined || tier === "unknown") return 0;
    const { medium, blockSizeTokens } = first;
    const group = outlet.groupOf(first, keyed);
    if (group === undefined) return 1;
    const place = { tier, medium, group, isHint: false };
    const claimed = claims.begin(tier, joinedHandles(run), blockSizeTokens);
    let taken = 0;
    for (const [number, event] of run.entries()) {
      const parent = claims.parentKey(event);
      const isAdded =
        parent !== null && claims.claim({ ...event, parent, extras: null }, claimed, taken);
      if (!isAdded) {
        this.#store(firstOf(claimed, taken), place, keyed);
        if (parent !== null) this.#store(null, place, keyed);
        return parent === null ? number : number + 1;
      }
      taken += event.handles.length;
    }
    this.#store(claimed, place, keyed);
    return run.length;
  }

  /** By tokens; a store whose parent is not known waits for it. */
  placeByTokens(event: BlockStored, place: LanePlace, keyed: KeyedEvent[]): void {
    const { claims, leftOut, orphans } = this.#deps;
    const { handles, tokens, blockSizeTokens } = event;
    const extras = extrasOfStored(event);
    const isFitting = extras === null || extras.length === handles.length;
    if (tokens.length !== handles.length * blockSizeTokens || !isFitting) {
      const known = handles.filter((each) => this.#keyOf(each) !== null);
      if (known.length === handles.length) leftOut.count("hash-only");
      else keyed.push(lost("length-mismatch"));
      this.placeByHandle({ handles: known }, place, keyed);
      return;
    }
    const parent = claims.parentKey(event);
    if (parent === null) {
      const isHeld = event.parent !== null && orphans.hold(event, event.parent);
      if (isHeld) leftOut.count("unknown-parent");
      else keyed.push(lost("orphans-full"));
      return;
    }
    const claimed = claims.begin(place.tier, handles, blockSizeTokens);
    const isAdded = claims.claim({ ...event, parent, extras }, claimed, 0);
    this.#store(isAdded ? claimed : null, place, keyed);
  }

  /** Offload events carry handles only: their blocks are placed where they are known. */
  placeByHandle(
    { handles }: Pick<BlockStored, "handles">,
    place: LanePlace,
    keyed: KeyedEvent[],
  ): void {
    const known = handles.filter((each) => this.#keyOf(each) !== null);
    const keys = known.map((each) => this.#keyOf(each) ?? 0n);
    const { tier } = place;
    const rows = this.#deps.handles.rowsOf(known);
    const stored = {
      type: "stored",
      tier,
      handles: known,
      keys,
      rows,
      blockSizeTokens: 0,
    } as const;
    const isAdded = this.#deps.handles.addAll(stored, "placed") === known.length;
    this.#store(isAdded ? stored : null, place, keyed);
    if (known.length < handles.length) keyed.push(lost("unknown-handle"));
  }

  /** Tells of blocks that are in the map; null: there was no room for all of them. */
  #store(stored: KeyedStored | null, place: LanePlace, keyed: KeyedEvent[]): void {
    const { keyWaiting, orphans, outlet } = this.#deps;
    outlet.tell(stored, place, keyed);
    if (stored === null || stored.handles.length === 0) return;
    if (orphans.size === 0) return;
    const isOutermost = this.#arrived.length === 0;
    for (const handle of stored.handles) this.#arrived.push(...orphans.take(engineKey(handle)));
    if (!isOutermost) return;
    for (const each of this.#arrived) keyWaiting(each, keyed);
    this.#arrived.length = 0;
  }

  #keyOf(handle: bigint): BlockKey | null {
    return this.#deps.handles.keyOf(engineKey(handle));
  }
}
