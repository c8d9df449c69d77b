/**
 * One holder's KV events -> keyed events: token ids become our keys, handles find their keys.
 *
 * Pure: state in memory only. Events have to come in the engine's order; see sequencer.ts.
 */
import { type BlockKey, engineKey } from "../core/ids.ts";
import type { HolderCursor } from "../indexer/holder-state.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { type Tier, tierOfMedium } from "../tiers/tier.ts";
import { ConnectorRule } from "./connector-rule.ts";
import { CopyLanes, type LanePlace } from "./copy-lanes.ts";
import { GroupRule } from "./group-rule.ts";
import { type Blocks, HandleMap } from "./handle-map.ts";
import { type EndedHints, HINT_LIFE_MS, Hints } from "./hints.ts";
import { IdentityRule } from "./identity-rule.ts";
import { firstOf, KeyClaims } from "./key-claims.ts";
import { hasLost, type KeyedEvent, type KeyedStored, lost } from "./keyed-batch.ts";
import type { BlockRemoved, BlockStored, KvEvent, KvEventBatch } from "./kv-event.ts";
import { type LeftOut, LeftOutCounts } from "./left-out.ts";
import { ExpectedLosses } from "./loss-rank.ts";
import { Orphans } from "./orphans.ts";
import { PlainBatch } from "./plain-batch.ts";
import { PlainKeyer } from "./plain-keyer.ts";
import { endOfRemovals, joinedRemovals } from "./removal-runs.ts";
import { StoreOutlet } from "./store-outlet.ts";
import { endOfStores, joinedHandles, storesOf } from "./store-runs.ts";
import { extrasOfStored } from "./stored-extras.ts";

export interface HolderKeyerDeps {
  readonly model: string;
  readonly hasher: BlockHasher;
  /** Life of what a connector stores, ms; default HINT_LIFE_MS. */
  readonly hintLifeMs?: number;
  /** Whether what is below the GPU is a connector's, which tells of no removals; default false. */
  readonly isConnector?: boolean;
}

export class HolderKeyer {
  readonly #handles = new HandleMap();
  readonly #claims: KeyClaims;
  readonly #orphans = new Orphans();
  readonly #groups = new GroupRule();
  readonly #leftOut = new LeftOutCounts();
  readonly #identities = new IdentityRule();
  readonly #expected = new ExpectedLosses();
  readonly #hints: Hints;
  readonly #lanes: CopyLanes;
  readonly #rule: ConnectorRule;
  readonly #outlet: StoreOutlet;
  readonly #plain: PlainKeyer;
  /** Latest time that the engine said, ms. */
  #engineMs = 0;

  constructor(deps: HolderKeyerDeps) {
    this.#claims = new KeyClaims({ ...deps, handles: this.#handles });
    this.#hints = new Hints(deps.hintLifeMs ?? HINT_LIFE_MS);
    this.#lanes = new CopyLanes(this.#handles, this.#hints);
    this.#rule = new ConnectorRule(deps.isConnector ?? false);
    const own = { handles: this.#handles, groups: this.#groups, leftOut: this.#leftOut };
    const parts = { ...own, lanes: this.#lanes };
    this.#outlet = new StoreOutlet(parts);
    this.#plain = new PlainKeyer({
      ...parts,
      claims: this.#claims,
      orphans: this.#orphans,
      rule: this.#rule,
      outlet: this.#outlet,
    });
  }

  /** What an earlier relay told once in this life. */
  restoreLife({ ignoredGroups, lanes = [] }: Pick<HolderCursor, "ignoredGroups" | "lanes">): void {
    this.#identities.setTold();
    for (const group of ignoredGroups) this.#groups.ignore(group);
    this.#groups.setApart(this.#lanes.restoreNames(lanes));
  }

  /**
   * What goes with the next message, once: that of the copies taken over not all can be told apart, and
   * the ends of hints that were said aside. What is said aside, and lost, nobody misses.
   */
  takePending(): KeyedEvent[] {
    const pending: KeyedEvent[] = this.#lanes.takeUnclear() ? [lost("uncounted-copies")] : [];
    for (const { tier, handles } of this.#hints.takeSaidAside()) {
      const isGone = (each: bigint): boolean =>
        !this.#hints.has(tier, each) && this.#lanes.copies(tier, each) === 0;
      const gone = handles.filter(isGone);
      if (gone.length > 0) pending.push({ type: "removed", tier, handles: gone });
    }
    return pending;
  }

  get orphans(): Pick<Orphans, "isWaiting" | "setElsewhere"> {
    return this.#orphans;
  }

  missedSomeOfLife(): void {
    this.#lanes.setUnclear();
  }

  /** Blocks with their copies in the GPU; those of lower tiers follow by restoreLower. */
  restoreHandles(blocks: Blocks, copies: Uint32Array): void {
    const { copiesPerHeld: times } = this.#lanes;
    const held = copies.map((each) => each * times);
    this.#handles.restore(blocks, held);
  }

  /** A block that may be a connector's, of unknown age. */
  restoreHint(tier: Tier, handle: bigint): void {
    this.#hints.add(tier, handle, null);
  }

  /** So many of a block's copies, which restoreHandles has put back, are in this tier. */
  restoreLower(tier: Tier, handle: bigint, copies: number): void {
    this.#lanes.restore(tier, handle, copies);
  }

  get hints(): Pick<Hints, "size" | "lifeMs"> {
    return this.#hints;
  }

  /** Removals of the hints whose life is over, so long after the engine's latest word: said aside. */
  endHints(elapsedMs: number): KeyedEvent[] {
    return this.#removalsOf(this.#hints.takeEndedAside(this.#engineMs + elapsedMs));
  }

  /** What was left out since the last call, and costs nothing of what is known. */
  takeLeftOut(): LeftOut {
    return this.#leftOut.take();
  }

  /** The engine started anew: its handles mean nothing any more. */
  forget(): void {
    this.#handles.clear();
    this.#orphans.clear();
    this.#groups.clear();
    this.#lanes.clear();
    this.#hints.clear();
    this.#rule.clear();
    this.#identities.clear();
    this.#expected.clear();
    this.#engineMs = 0;
  }

  /** `batch` null: a message that could not be decoded; only its loss is reported. */
  keyEvents(batch: KvEventBatch | null): KeyedEvent[] {
    const wasWaiting = this.#orphans.isWaiting;
    const keyed = batch === null ? [lost("undecodable")] : this.#keyBatch(batch);
    return this.#expected.closed(keyed, { wasWaiting, isWaiting: this.#orphans.isWaiting });
  }

  #keyBatch(batch: KvEventBatch): KeyedEvent[] {
    this.#engineMs = Math.max(this.#engineMs, batch.ts * 1000);
    // A batch without events may be a note, which is lost as what is said aside.
    const isNote = !(batch instanceof PlainBatch) && batch.events.length === 0;
    const isNone = this.#hints.size === 0;
    const ended = isNone || isNote ? [] : this.#hints.takeEnded(this.#engineMs);
    const keyed = isNote ? this.endHints(0) : this.#removalsOf(ended);
    const left = this.#plain.key(batch, keyed);
    if (left !== null) this.#keyFrom(left, batch.events, keyed);
    return keyed;
  }

  #keyFrom(first: number, events: readonly KvEvent[], keyed: KeyedEvent[]): void {
    for (let start = first; start < events.length; ) {
      const event = events[start];
      if (event === undefined) break;
      const end =
        event.type === "removed" ? endOfRemovals(events, start) : endOfStores(events, start);
      if (end === start + 1) this.#key(event, keyed);
      else if (event.type === "removed") this.#key(joinedRemovals(events, start, end), keyed);
      else this.#keyStores(storesOf(events, start, end), keyed);
      start = end;
    }
  }

  /** Follows events that an earlier relay keyed. */
  adoptEvents(events: readonly KeyedEvent[]): void {
    const hasHints = hasLost(events, "no-removals");
    this.#identities.setTold();
    this.#orphans.setElsewhere(hasLost(events, "unknown-parent"));
    for (const event of events) {
      this.#adoptEvent(event);
      if (event.type !== "stored") continue;
      if (event.tier === "gpu") this.#rule.noteOwnSize(event.blockSizeTokens);
      const isHint = hasHints && this.#rule.isKeyedHint(event);
      for (const each of event.handles) {
        if (isHint) this.restoreHint(event.tier, each);
        else this.restoreLower(event.tier, each, 1);
      }
    }
  }

  #key(event: KvEvent, keyed: KeyedEvent[]): void {
    switch (event.type) {
      case "stored":
        if (this.#rule.isHint(event)) this.#keyHint(event, keyed);
        else {
          this.#noteOwn(event, keyed);
          this.#keyStored(event, keyed);
          if (event.caveat === "token-pairs") keyed.push(lost(event.caveat));
        }
        break;
      case "removed":
        this.#keyRemoved(event, keyed);
        break;
      case "cleared":
        if (this.#orphans.mayBeLower) keyed.push(lost("lower-tiers"));
        this.#bury();
        keyed.push({ type: "cleared" });
        break;
      case "skipped":
        if (event.reason === "unknown-tag") this.#leftOut.count(event.reason);
        else keyed.push(lost("skipped-event"));
    }
  }

  /** A set: said again, it lives longer, and is no second copy. */
  #keyHint(event: BlockStored, keyed: KeyedEvent[]): void {
    if (this.#outlet.groupOf(event, keyed) === undefined) return;
    keyed.push(lost("no-removals"));
    const tier = tierOfMedium(event.medium);
    const hints = this.#hints;
    if (tier === "unknown") {
      keyed.push(lost("unknown-tier"));
      return;
    }
    const said = new Set(event.handles);
    const placing = said.size < event.handles.length ? "none" : this.#rule.placing(event);
    if (placing === "none") return;
    const isKnown = (handle: bigint): boolean => hints.has(tier, handle);
    if (event.handles.every(isKnown)) {
      for (const handle of event.handles) hints.add(tier, handle, this.#engineMs);
      return;
    }
    const known = event.handles.filter(isKnown);
    for (const handle of known) hints.delete(tier, handle);
    if (known.length > 0) keyed.push(...this.#removalsOf([{ tier, handles: known }]));
    const before = keyed.length;
    const place = { tier, medium: event.medium, group: null, isHint: true };
    if (placing === "handles") this.#placeByHandle(event, place, keyed);
    else this.#placeByTokens(event, place, keyed);
    for (const stored of keyed.slice(before)) {
      if (stored.type !== "stored" || stored.tier !== tier) continue;
      // Orphans that it brought home have their own say.
      for (const handle of stored.handles) {
        if (said.has(handle)) hints.add(tier, handle, this.#engineMs);
      }
    }
    const excess = this.#removalsOf(hints.takeExcess());
    if (excess.length > 0) keyed.push(...excess, lost("hints-full"));
  }

  #keyOf(handle: bigint): BlockKey | null {
    return this.#handles.keyOf(engineKey(handle));
  }

  #removalsOf(ended: readonly EndedHints[]): KeyedEvent[] {
    return ended.map(({ tier, handles }) => {
      const rows = this.#handles.removeAll(handles);
      return { type: "removed", tier, handles, rows };
    });
  }

  #keyStored(event: BlockStored, keyed: KeyedEvent[]): void {
    this.#identities.note(event);
    const group = this.#outlet.groupOf(event, keyed);
    if (group === undefined) return;
    const { medium } = event;
    const tier = tierOfMedium(medium);
    if (tier === "unknown") {
      keyed.push(lost("unknown-tier"));
      return;
    }
    const place = { tier, medium, group, isHint: false };
    if (this.#identities.isByHandle(event, (handle) => this.#keyOf(handle) !== null))
      this.#placeByHandle(event, place, keyed);
    else this.#placeByTokens(event, place, keyed);
  }

  #placeByTokens(event: BlockStored, place: LanePlace, keyed: KeyedEvent[]): void {
    const { handles, tokens, blockSizeTokens } = event;
    const extras = extrasOfStored(event);
    const isFitting = extras === null || extras.length === handles.length;
    if (tokens.length !== handles.length * blockSizeTokens || !isFitting) {
      const isKnown = handles.every((each) => this.#keyOf(each) !== null);
      if (isKnown) this.#leftOut.count("hash-only");
      if (isKnown) this.#placeByHandle(event, place, keyed);
      else keyed.push(lost("length-mismatch"));
      return;
    }
    const parent = this.#claims.parentKey(event);
    if (parent === null) {
      const isHeld = event.parent !== null && this.#orphans.hold(event, event.parent);
      if (isHeld) this.#leftOut.count("unknown-parent");
      else keyed.push(lost("orphans-full"));
      return;
    }
    const claimed = this.#claims.begin(place.tier, handles, blockSizeTokens);
    const isAdded = this.#claims.claim({ ...event, parent, extras }, claimed, 0);
    this.#store(isAdded ? claimed : null, place, keyed);
  }

  /** A run of stores, as long as each is what it seems to be; see store-runs.ts. */
  #keyStores(run: readonly BlockStored[], keyed: KeyedEvent[]): void {
    const [first] = run;
    if (first === undefined) return;
    const { medium, blockSizeTokens } = first;
    const tier = tierOfMedium(medium);
    const isEach = tier === "unknown" || this.#orphans.size > 0 || this.#rule.isHint(first);
    const group = isEach ? undefined : this.#outlet.groupOf(first, keyed);
    if (tier === "unknown" || group === undefined) {
      for (const event of isEach ? run : run.slice(1)) this.#key(event, keyed);
      return;
    }
    this.#noteOwn(first, keyed);
    const place = { tier, medium, group, isHint: false };
    const claimed = this.#claims.begin(tier, joinedHandles(run), blockSizeTokens);
    let taken = 0;
    for (const [number, event] of run.entries()) {
      const parent = this.#claims.parentKey(event);
      const isAdded =
        parent !== null && this.#claims.claim({ ...event, parent, extras: null }, claimed, taken);
      if (!isAdded) {
        this.#store(firstOf(claimed, taken), place, keyed);
        if (parent !== null) this.#store(null, place, keyed);
        for (const rest of run.slice(parent === null ? number : number + 1)) this.#key(rest, keyed);
        return;
      }
      taken += event.handles.length;
    }
    this.#store(claimed, place, keyed);
  }

  /** A store of the engine itself: the first that tells of an identity ends the hints without one. */
  #noteOwn(event: BlockStored, keyed: KeyedEvent[]): void {
    const isNewIdentity = this.#rule.noteOwn(event);
    if (isNewIdentity) keyed.push(...this.#removalsOf(this.#hints.takeAll()));
  }

  /** Offload events carry handles only: their blocks are placed where they are known. */
  #placeByHandle({ handles }: BlockStored, place: LanePlace, keyed: KeyedEvent[]): void {
    const known = handles.filter((each) => this.#keyOf(each) !== null);
    const keys = known.map((each) => this.#keyOf(each) ?? 0n);
    const { tier } = place;
    const rows = this.#handles.rowsOf(known);
    const stored = {
      type: "stored",
      tier,
      handles: known,
      keys,
      rows,
      blockSizeTokens: 0,
    } as const;
    const isAdded = this.#handles.addAll(stored, "placed") === known.length;
    this.#store(isAdded ? stored : null, place, keyed);
    if (known.length < handles.length) keyed.push(lost("unknown-handle"));
  }

  /** Tells of blocks that are in the map; null: there was no room for all of them. */
  #store(stored: KeyedStored | null, place: LanePlace, keyed: KeyedEvent[]): void {
    this.#outlet.tell(stored, place, keyed);
    if (stored === null || stored.handles.length === 0) return;
    if (this.#orphans.size === 0) return;
    const waiting = Array.from(stored.handles, (handle) => this.#orphans.take(engineKey(handle)));
    for (const each of waiting.flat()) this.#key(each, keyed);
  }

  #keyRemoved(event: BlockRemoved, keyed: KeyedEvent[]): void {
    const group = this.#groups.groupOfRemoved(event.group);
    const tier = tierOfMedium(event.medium);
    if (group === undefined) this.#leftOut.count("other-group");
    else if (tier === "unknown") keyed.push(lost("unknown-tier"));
    else {
      const place = { tier, medium: event.medium, group };
      const placed = (each: bigint): number => this.#lanes.removable(place, each);
      const handles = this.#orphans.removeWaiting(event, placed);
      if (handles.length > 0) this.#lanes.removed(place, handles, keyed);
    }
  }

  /** No block is held any more. */
  #bury(): void {
    this.#handles.buryAll();
    this.#lanes.bury();
    this.#hints.clear();
    this.#orphans.clear();
  }

  #adoptEvent(event: KeyedEvent): void {
    if (event.type === "cleared") this.#bury();
    if (event.type === "ignored-group") this.restoreLife({ ignoredGroups: [event.group] });
    if (event.type === "lane") this.restoreLife({ ignoredGroups: [], lanes: [event.name] });
    if (event.type === "removed") this.#lanes.adoptRemoved(event.tier, event.handles);
    if (event.type === "stored") {
      this.restoreHandles(event, new Uint32Array(event.handles.length).fill(1));
    }
  }
}
