/**
 * Stores whose parent is not known: held until it is, with what was removed of them meanwhile.
 *
 * Bounded in events and tokens; an event beyond is dropped, oldest kept: its parent is the likelier to
 * come next. What was removed as a whole waits no longer.
 */
import { type EngineKey, engineKey } from "../core/ids.ts";
import { tierOfMedium } from "../tiers/tier.ts";
import { type BlockRemoved, type BlockStored, detached } from "./kv-event.ts";

/** Events held for one holder. */
export const ORPHANS_MAX = 4096;
/** Tokens of all events held for one holder. */
export const ORPHAN_TOKENS_MAX = 1_048_576;

/** Where an engine stores and removes, as it says it. */
type EventPlace = Pick<BlockRemoved, "medium" | "group">;

interface Orphan {
  readonly event: BlockStored;
  readonly parent: EngineKey;
  /** Name of its place. */
  readonly place: string;
  /** What was removed of it: each of its copies at most once. */
  readonly removed: EngineKey[];
}

export class Orphans {
  readonly #byParent = new Map<EngineKey, Set<Orphan>>();
  /** By place and block: the orphans that have it, oldest first, each with the copies that were not removed. */
  readonly #copies = new Map<string, Map<EngineKey, Map<Orphan, number>>>();
  #orphans = 0;
  #tokens = 0;
  #areElsewhere = false;

  get size(): number {
    return this.#orphans;
  }

  /** Whether any waits: here, or where they are out of reach. */
  get isWaiting(): boolean {
    // Of some that still wait for the sake of others, all was removed.
    return this.#areElsewhere || this.#copies.size > 0;
  }

  /** Whether any that waits may be held below the GPU, where a clear leaves it. */
  get mayBeLower(): boolean {
    const isLower = (place: string): boolean => !place.startsWith("gpu ");
    return this.#areElsewhere || [...this.#copies.keys()].some(isLower);
  }

  /** Whether an earlier relay held some, which nobody brings home any more. */
  setElsewhere(areElsewhere: boolean): void {
    this.#areElsewhere = areElsewhere;
  }

  /** False when there is no room. */
  hold(event: BlockStored, parent: EngineKey): boolean {
    const tokens = this.#tokens + event.tokens.length;
    if (this.#orphans >= ORPHANS_MAX || tokens > ORPHAN_TOKENS_MAX) return false;
    const place = nameOf(event);
    const orphan: Orphan = { event: detached(event), parent, place, removed: [] };
    const siblings = this.#byParent.get(parent);
    if (siblings === undefined) this.#byParent.set(parent, new Set([orphan]));
    else siblings.add(orphan);
    const copies = this.#copies.get(place) ?? new Map<EngineKey, Map<Orphan, number>>();
    this.#copies.set(place, copies);
    for (const each of event.handles) {
      const handle = engineKey(each);
      const waiting = copies.get(handle) ?? new Map<Orphan, number>();
      copies.set(handle, waiting.set(orphan, (waiting.get(orphan) ?? 0) + 1));
    }
    this.#orphans += 1;
    this.#tokens = tokens;
    return true;
  }

  /** Takes away one copy of a block that waits here. False: there is none. */
  removed(handle: EngineKey, place: EventPlace): boolean {
    const [orphan] = this.#copies.get(nameOf(place))?.get(handle)?.keys() ?? [];
    if (orphan === undefined) return false;
    this.#forgetCopy(orphan, handle);
    orphan.removed.push(handle);
    if (orphan.removed.length === orphan.event.handles.length) this.#dropUnlessParent(orphan);
    return true;
  }

  /**
   * A removal of blocks: of those that wait here, it waits with them. Returns the others. A copy that is
   * placed there goes first: the one that waits is unknown to the index anyway.
   */
  removeWaiting(removal: BlockRemoved, copiesPlaced: (handle: bigint) => number): BigUint64Array {
    const { handles } = removal;
    if (this.#orphans === 0) return handles;
    const gone = new Map<bigint, number>();
    return handles.filter((each) => {
      const goneBefore = gone.get(each) ?? 0;
      gone.set(each, goneBefore + 1);
      return goneBefore < copiesPlaced(each) || !this.removed(engineKey(each), removal);
    });
  }

  /** Hands over, in order, what waited for this parent. */
  take(parent: EngineKey): (BlockStored | BlockRemoved)[] {
    const orphans = this.#byParent.get(parent);
    if (orphans === undefined) return [];
    this.#byParent.delete(parent);
    return [...orphans].flatMap((orphan) => {
      const { event, removed } = orphan;
      this.#forget(orphan);
      if (removed.length === 0) return [event];
      const { medium, group } = event;
      const handles = BigUint64Array.from(removed);
      return [event, { type: "removed", handles, medium, group } as const];
    });
  }

  clear(): void {
    this.#byParent.clear();
    this.#copies.clear();
    this.#orphans = 0;
    this.#tokens = 0;
    this.#areElsewhere = false;
  }

  /** Its key is still wanted where others wait for one of its blocks. */
  #dropUnlessParent(orphan: Orphan): void {
    if (orphan.removed.some((handle) => this.#byParent.has(handle))) return;
    const siblings = this.#byParent.get(orphan.parent);
    siblings?.delete(orphan);
    if (siblings?.size === 0) this.#byParent.delete(orphan.parent);
    this.#forget(orphan);
  }

  #forget(orphan: Orphan): void {
    const { event, removed } = orphan;
    this.#orphans -= 1;
    this.#tokens -= event.tokens.length;
    if (removed.length === event.handles.length) return;
    for (const handle of event.handles) this.#forgetCopy(orphan, engineKey(handle));
  }

  #forgetCopy(orphan: Orphan, handle: EngineKey): void {
    const copies = this.#copies.get(orphan.place);
    const waiting = copies?.get(handle);
    const left = (waiting?.get(orphan) ?? 0) - 1;
    if (left > 0) waiting?.set(orphan, left);
    else waiting?.delete(orphan);
    if (waiting?.size === 0) copies?.delete(handle);
    if (copies?.size === 0) this.#copies.delete(orphan.place);
  }
}

/** All media of the GPU are one place. */
function nameOf({ medium, group }: EventPlace): string {
  const tier = tierOfMedium(medium);
  return `${tier === "gpu" ? tier : medium?.toUpperCase()} ${group}`;
}
