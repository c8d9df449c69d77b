/**
 * One holder's KV events -> keyed events: token ids become our keys, handles find their keys.
 *
 * Pure: state in memory only. Events have to come in the engine's order; see sequencer.ts.
 */
import type { HolderCursor } from "../indexer/holder-state.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { type Tier, tierOfMedium } from "../tiers/tier.ts";
import { ConnectorRule, HINTS_TOLD, IDENTITIES_TOLD } from "./connector-rule.ts";
import { CopyLanes } from "./copy-lanes.ts";
import { GroupRule } from "./group-rule.ts";
import { type Blocks, HandleMap } from "./handle-map.ts";
import { HintKeyer } from "./hint-keyer.ts";
import { HINT_LIFE_MS, Hints } from "./hints.ts";
import { KeyClaims } from "./key-claims.ts";
import { hasLost, type KeyedEvent, lost } from "./keyed-batch.ts";
import type { BlockRemoved, BlockStored, KvEvent, KvEventBatch } from "./kv-event.ts";
import { type LeftOut, LeftOutCounts } from "./left-out.ts";
import { ExpectedLosses } from "./loss-rank.ts";
import { Orphans } from "./orphans.ts";
import { PlainBatch } from "./plain-batch.ts";
import { PlainKeyer } from "./plain-keyer.ts";
import { endOfRemovals, joinedRemovals } from "./removal-runs.ts";
import { StoreKeyer } from "./store-keyer.ts";
import { StoreOutlet } from "./store-outlet.ts";
import { endOfStores, storesOf } from "./store-runs.ts";

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
  readonly #orphans = new Orphans();
  readonly #groups = new GroupRule();
  readonly #leftOut = new LeftOutCounts();
  readonly #expected = new ExpectedLosses();
  readonly #hints: Hints;
  readonly #lanes: CopyLanes;
  readonly #rule: ConnectorRule;
  readonly #stores: StoreKeyer;
  readonly #hintKeyer: HintKeyer;
  readonly #plain: PlainKeyer;
  /** Latest time that the engine said, ms. */
  #engineMs = 0;
  /**
   * Another relay told of this life before: what waits here it may have placed, and told readers, so that they
   * would count it twice when it is placed here.
   */
  #isTakenOver = false;

  constructor(deps: HolderKeyerDeps) {
    this.#hints = new Hints(deps.hintLifeMs ?? HINT_LIFE_MS);
    this.#lanes = new CopyLanes(this.#handles, this.#hints);
    this.#rule = new ConnectorRule(deps.isConnector ?? false);
    const placing = { handles: this.#handles, lanes: this.#lanes, groups: this.#groups };
    const outlet = new StoreOutlet({ ...placing, leftOut: this.#leftOut });
    const claims = new KeyClaims({ ...deps, handles: this.#handles });
    const parts = { claims, outlet, orphans: this.#orphans, leftOut: this.#leftOut };
    this.#plain = new PlainKeyer({ ...placing, ...parts, rule: this.#rule });
    const keyWaiting = this.#key.bind(this);
    const stores = new StoreKeyer({ ...parts, handles: this.#handles, keyWaiting });
    this.#stores = stores;
    const own = { handles: this.#handles, lanes: this.#lanes, rule: this.#rule };
    this.#hintKeyer = new HintKeyer({ ...own, hints: this.#hints, outlet, stores });
  }

  /** What an earlier relay told once in this life. */
  restoreLife({ ignoredGroups, lanes = [] }: Pick<HolderCursor, "ignoredGroups" | "lanes">): void {
    this.#setMissed();
    for (const group of ignoredGroups) this.#groups.ignore(group);
    this.#groups.setApart(this.#lanes.restoreNames(lanes));
    if (lanes.includes(IDENTITIES_TOLD)) this.#rule.setIdentitiesTold();
    if (lanes.includes(HINTS_TOLD)) this.#rule.noteHint();
  }

  /**
   * What goes with the next message, once: that of the copies taken over not all can be told apart, and
   * the ends of hints that were said aside.
   */
  takePending(): KeyedEvent[] {
    const pending = this.#hintKeyer.takeSaidAside();
    return this.#lanes.takeUnclear() ? [lost("uncounted-copies"), ...pending] : pending;
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
    return this.#hintKeyer.endedAside(this.#engineMs + elapsedMs);
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
    this.#stores.clear();
    this.#expected.clear();
    this.#engineMs = 0;
    this.#isTakenOver = false;
  }

  /** `batch` null: a message that could not be decoded; only its loss is reported. */
  keyEvents(batch: KvEventBatch | null): KeyedEvent[] {
    const wasWaiting = this.#orphans.isWaiting;
    const keyed = batch === null ? [lost("undecodable")] : this.#keyBatch(batch);
    const { isWaiting } = this.#orphans;
    const isTwofold = this.#isTakenOver && (wasWaiting || isWaiting);
    const events = this.#expected.closed(keyed, { wasWaiting, isWaiting });
    return isTwofold ? [...events, lost("uncounted-copies")] : events;
  }

  #keyBatch(batch: KvEventBatch): KeyedEvent[] {
    this.#engineMs = Math.max(this.#engineMs, batch.ts * 1000);
    // A batch without events may be a note, which is lost as what is said aside.
    const isNote = !(batch instanceof PlainBatch) && batch.events.length === 0;
    const keyed = isNote ? this.endHints(0) : this.#hintKeyer.ended(this.#engineMs);
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
    this.#setMissed();
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
    // Said at the end of a message, behind what may clear all.
    this.#orphans.setElsewhere(hasLost(events, "unknown-parent"));
  }

  #key(event: KvEvent, keyed: KeyedEvent[]): void {
    switch (event.type) {
      case "stored":
        if (this.#rule.isHint(event)) this.#hintKeyer.key(event, this.#engineMs, keyed);
        else {
          this.#hintKeyer.noteOwn(event, keyed);
          this.#stores.key(event, keyed);
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

  /** A run of stores, as long as each is what it seems to be; see store-runs.ts. */
  #keyStores(run: readonly BlockStored[], keyed: KeyedEvent[]): void {
    const [first] = run;
    if (first === undefined) return;
    const isEach = this.#orphans.size > 0 || this.#rule.isHint(first);
    if (!isEach) this.#hintKeyer.noteOwn(first, keyed);
    const done = isEach ? 0 : this.#stores.keyRun(run, keyed);
    for (const rest of run.slice(done)) this.#key(rest, keyed);
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

  /** What an earlier relay was told, and did not tell. */
  #setMissed(): void {
    this.#stores.setIdentitiesTold();
    this.#rule.setSizesMissed();
    this.#isTakenOver = true;
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
