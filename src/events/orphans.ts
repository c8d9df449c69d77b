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
  /** The orphans that have a block in a place, once for each copy that was not removed. */
  readonly #copies = new Map<string, Map<EngineKey, Orphan[]>>();
  #orphans = 0;
  #tokens = 0;
  #areElsewhere = false;

  get size(): number {
    return this.#orphans;
  }

  /** Whether any waits: here, or where they are out of reach. */
  get isWaiting(): boolean {
    if (this.#orphans === 0) return this.#areElsewhere;
    // Of some that still wait for the sake of others, all was removed.
    return this.#areElsewhere || [...this.#copies.values()].some(({ size }) => size > 0);
  }

  /** Whether any that waits may be held below the GPU, where a clear leaves it. */
  get mayBeLower(): boolean {
    const isLower = ([place, { size }]: readonly [string, { readonly size: number }]): boolean =>
      size > 0 && !place.startsWith("gpu ");
    return this.#areElsewhere || [...this.#copies].some(isLower);
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
    const copies = this.#copies.get(place) ?? new Map<EngineKey, Orphan[]>();
    this.#copies.set(place, copies);
    for (const each of event.handles) {
      const handle = engineKey(each);
      const waiting = copies.get(handle);
      if (waiting === undefined) copies.set(handle, [orphan]);
      else waiting.push(orphan);
    }
    this.#orphans += 1;
    this.#tokens = tokens;
    return true;
  }

  /** Takes away one copy of a block that waits here. False: there is none. */
  removed(handle: EngineKey, place: EventPlace): boolean {
    const orphan = this.#copies.get(nameOf(place))?.get(handle)?.at(-1);
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
    const waiting = copies?.get(handle) ?? [];
    const position = waiting.lastIndexOf(orphan);
    if (position >= 0) waiting.splice(position, 1);
    if (waiting.length === 0) copies?.delete(handle);
  }
}

/** All media of the GPU are one place. */
function nameOf({ medium, group }: EventPlace): string {
  const tier = tierOfMedium(medium);
  return `${tier === "gpu" ? tier : medium?.toUpperCase()} ${group}`;
}
