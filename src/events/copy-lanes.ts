/**
 * Copies of one holder's blocks by where the engine has them: medium of a tier, and full group.
 *
 * The index counts by handle and tier alone. That is enough while a tier has one medium and the model one
 * group of full attention; else a removal said twice for one medium would take the other's copy, and a
 * block that only one group has would pass for held. So each lane is counted by itself here, and the index
 * is told what follows: a block has as many copies in a tier as the group has that has the fewest, over
 * all media of the tier.
 *
 * The GPU's one lane costs nothing: its copies are those of the handle map that no other lane has. Which
 * lanes there are is told once in each life. How their copies are spread is known here alone: whoever
 * takes over knows the sums, and says `uncounted-copies` where a tier has several lanes. Pure.
 */
import { engineKey } from "../core/ids.ts";
import { TIERS, type Tier, tierOfMedium, tierOrder } from "../tiers/tier.ts";
import type { HandleMap } from "./handle-map.ts";
import type { Hints } from "./hints.ts";
import type { KeyedEvent, KeyedStored } from "./keyed-batch.ts";
import { LaneCounts } from "./lane-counts.ts";

export interface LanePlace {
  readonly tier: Tier;
  readonly medium: string | null;
  /** Null: of the one group, or of all of them. */
  readonly group: number | null;
  /** A connector's hint, counted aside; default false. */
  readonly isHint?: boolean;
}

interface Lane {
  /** In upper case; empty: that of an earlier relay, which did not tell it. */
  medium: string;
  group: number | null;
  readonly counts: LaneCounts;
}

/** The engine's GPU block pool, whatever it is called. */
const GPU_MEDIUM = "GPU";
const GROUP_MARK = "#";
/** Lanes that a holder's cursor has: all media below the GPU and FULL_GROUPS_MAX groups are fewer. */
export const LANES_MAX = 64;

export class CopyLanes {
  readonly #handles: HandleMap;
  readonly #hints: Hints;
  /** Of each tier; none of the GPU while there is one group. */
  #lanes: Lane[][] = TIERS.map(() => []);
  /** Full groups that are counted apart; empty while there is one. */
  #groups: readonly number[] = [];
  /** Media and groups that are told in this life. */
  readonly #told = new Set<string>();
  /** The GPU's one lane is the only one. */
  #isPlain = true;
  #isUnclear = false;
  readonly #one = new BigUint64Array(1);

  constructor(handles: HandleMap, hints: Hints) {
    this.#handles = handles;
    this.#hints = hints;
  }

  /** Whether the GPU has one lane and there are no hints: all of a GPU's copies are those of the map. */
  get isOne(): boolean {
    return this.#isPlain && this.#hints.size === 0;
  }

  /** Copies in the handle map for each one that the index has. */
  get copiesPerHeld(): number {
    return Math.max(1, this.#groups.length);
  }

  /** Whether what was taken over cannot be told apart. True once. */
  takeUnclear(): boolean {
    const isUnclear = this.#isUnclear;
    this.#isUnclear = false;
    return isUnclear;
  }

  /** What an earlier relay told was not all heard. */
  setUnclear(): void {
    this.#isUnclear = true;
  }

  /** Blocks enter a lane; they are in the handle map already. */
  stored(place: LanePlace, stored: KeyedStored, keyed: KeyedEvent[]): void {
    if (this.#isPlain && place.tier === "gpu") {
      keyed.push(stored);
      return;
    }
    const lane = this.#laneOf(place, keyed);
    const { tier, handles } = stored;
    if (this.#groups.length === 0) {
      if (lane !== null) for (const handle of handles) lane.counts.add(handle, 1);
      keyed.push(stored);
      return;
    }
    const isTold = Array.from(handles, (handle) => {
      const before = this.copies(tier, handle);
      lane?.counts.add(handle, 1);
      return this.copies(tier, handle) > before;
    });
    if (!isTold.includes(false)) keyed.push(stored);
    else if (isTold.includes(true)) {
      const isKept = (_: bigint, at: number): boolean => isTold[at] === true;
      const { type, keys, blockSizeTokens } = stored;
      const told = { handles: handles.filter(isKept), keys: keys.filter(isKept) };
      const rows = this.#handles.rowsOf(told.handles);
      keyed.push({ type, tier, ...told, rows, blockSizeTokens });
    }
  }

  /** Blocks leave a lane, and the handle map with their last copy. */
  removed(place: LanePlace, handles: BigUint64Array, keyed: KeyedEvent[]): void {
    const { tier } = place;
    if (tier === "gpu" && this.isOne) {
      const rows = this.#handles.removeAll(handles);
      keyed.push({ type: "removed", tier, handles, rows });
      return;
    }
    const lane = this.#find(place);
    const rows = this.#handles.rowsOf(handles);
    const isTold = Array.from(handles, (handle) => this.#isTaken(tier, lane, handle));
    const isKept = (_: unknown, at: number): boolean => isTold[at] === true;
    if (!isTold.includes(true)) return;
    keyed.push({
      type: "removed",
      tier,
      handles: handles.filter(isKept),
      rows: rows.filter(isKept),
    });
  }

  /** From now on a prefix needs all of these full groups: what others have alone is not held. */
  setApart(groups: readonly number[], keyed: KeyedEvent[]): void {
    this.#splitOnce(groups);
    const before = TIERS.map((tier) => this.#heldCopies(tier));
    this.#groups = groups;
    for (const [order, tier] of TIERS.entries()) {
      const gone = [...(before[order] ?? [])].flatMap(([handle, copies]) =>
        new Array<bigint>(copies - this.copies(tier, handle)).fill(handle),
      );
      const handles = BigUint64Array.from(gone);
      const rows = this.#handles.rowsOf(handles);
      if (gone.length > 0) keyed.push({ type: "removed", tier, handles, rows });
    }
    for (const group of groups) this.#tell(`${GROUP_MARK}${group}`, keyed);
  }

  /** Lanes that an earlier relay told. Returns the full groups among them. */
  restoreNames(names: readonly string[]): readonly number[] {
    const groups = names.flatMap((name) =>
      name.startsWith(GROUP_MARK) ? Number(name.slice(GROUP_MARK.length)) : [],
    );
    if (groups.length > 0) {
      this.#splitOnce(groups);
      this.#groups = [...new Set([...this.#groups, ...groups])];
    }
    for (const name of names) {
      this.#told.add(name);
      const tier = name.startsWith(GROUP_MARK) ? "unknown" : tierOfMedium(name);
      if (tier !== "unknown") this.#laneOf({ tier, medium: name, group: null }, []);
    }
    const isSeveral = this.#lanes.some((lanes) => new Set(lanes.map((l) => l.medium)).size > 1);
    if (isSeveral || this.#groups.length > 0) this.#isUnclear = true;
    return this.#groups;
  }

  /** A block has so many more copies in a tier, as the index has it. */
  restore(tier: Tier, handle: bigint, copies: number): void {
    if (tier === "gpu" && this.#groups.length === 0) return;
    const { medium = "" } = this.#lanes[tierOrder(tier)]?.[0] ?? {};
    const groups = this.#groups.length === 0 ? [null] : this.#groups;
    for (const group of groups) {
      this.#laneOf({ tier, medium, group }, [])?.counts.add(handle, copies);
    }
  }

  /** An earlier relay said that one copy of each is gone. */
  adoptRemoved(tier: Tier, handles: BigUint64Array): void {
    const groups = this.#groups.length === 0 ? [null] : this.#groups;
    const lanes = this.#lanes[tierOrder(tier)] ?? [];
    for (const handle of lanes.length + this.#hints.size === 0 ? [] : handles) {
      if (this.#hints.has(tier, handle)) this.#hints.delete(tier, handle);
      else for (const group of groups) takeOne(lanes, group, handle);
    }
    for (let copy = 0; copy < groups.length; copy += 1) this.#handles.removeAll(handles);
  }

  /** No block is held any more; which lanes there are remains known. */
  bury(): void {
    for (const { counts } of this.#lanes.flat()) counts.clear();
  }

  clear(): void {
    this.#lanes = TIERS.map(() => []);
    this.#groups = [];
    this.#told.clear();
    this.#isPlain = true;
    this.#isUnclear = false;
  }

  #isTaken(tier: Tier, lane: Lane | null, handle: bigint): boolean {
    const before = this.copies(tier, handle);
    const isOne = tier === "gpu" && this.#groups.length === 0;
    if (isOne ? before > 0 : lane?.counts.take(handle) === true) {
      this.#removeOne(handle);
      return isOne || this.copies(tier, handle) < before;
    }
    if (this.#hints.has(tier, handle)) {
      this.#hints.delete(tier, handle);
      this.#removeOne(handle);
      return true;
    }
    // Nothing can be taken by it: the index counts it as unknown.
    return before === 0;
  }

  #removeOne(handle: bigint): void {
    this.#one[0] = handle;
    this.#handles.removeAll(this.#one);
  }

  /** Copies that removals from a lane find there, a hint among them. */
  removable(place: LanePlace, handle: bigint): number {
    const { tier } = place;
    const hints = this.#hints.has(tier, handle) ? 1 : 0;
    if (tier === "gpu" && this.#groups.length === 0) return hints + this.#gpuCopies(handle);
    return hints + (this.#find(place)?.counts.get(handle) ?? 0);
  }

  /** Copies that the index has of a block in a tier, hints apart. */
  copies(tier: Tier, handle: bigint): number {
    const lanes = this.#lanes[tierOrder(tier)] ?? [];
    if (this.#groups.length === 0) {
      return tier === "gpu" ? this.#gpuCopies(handle) : sumOf(lanes, null, handle);
    }
    const fewest = Math.min(...this.#groups.map((group) => sumOf(lanes, group, handle)));
    return fewest + sumOf(lanes, null, handle);
  }

  /** Of the one group: what no other lane has. */
  #gpuCopies(handle: bigint): number {
    let copies = this.#handles.copies(engineKey(handle));
    for (const lanes of this.#lanes) for (const { counts } of lanes) copies -= counts.get(handle);
    for (const tier of TIERS) if (this.#hints.has(tier, handle)) copies -= 1;
    return Math.max(0, copies);
  }

  /** What was counted while there was one group is the first one's. */
  #splitOnce([group]: readonly number[]): void {
    if (this.#groups.length > 0 || group === undefined) return;
    const gpu: Lane = { medium: GPU_MEDIUM, group, counts: new LaneCounts() };
    this.#handles.eachHeld((handle) => {
      const copies = this.#gpuCopies(handle);
      if (copies > 0) gpu.counts.add(handle, copies);
    });
    for (const lane of this.#lanes.flat()) lane.group = group;
    this.#lanes[tierOrder("gpu")] = [gpu];
    this.#groups = [group];
    this.#isPlain = false;
    // The index is told of what all groups have.
    this.#handles.claimHeld();
  }

  #heldCopies(tier: Tier): Map<bigint, number> {
    const lanes = this.#lanes[tierOrder(tier)] ?? [];
    const handles = lanes.flatMap(({ counts }) => [...counts.handles()]);
    return new Map(handles.map((handle) => [handle, this.copies(tier, handle)]));
  }

  #find({ tier, medium, group }: LanePlace): Lane | null {
    const name = nameOf(tier, medium);
    const lanes = this.#lanes[tierOrder(tier)] ?? [];
    return lanes.find((lane) => lane.medium === name && lane.group === group) ?? null;
  }

  /** Null: the GPU's one lane. */
  #laneOf(place: LanePlace, keyed: KeyedEvent[]): Lane | null {
    const { tier, medium, group } = place;
    if (tier === "gpu" && this.#groups.length === 0) return null;
    const known = this.#find(place);
    if (known !== null) return known;
    const name = nameOf(tier, medium);
    if (tier !== "gpu" && name !== "") this.#tell(name, keyed);
    const lanes = this.#lanes[tierOrder(tier)] ?? [];
    const unnamed = lanes.filter((lane) => lane.medium === "");
    for (const lane of unnamed) lane.medium = name;
    const named = unnamed.find((lane) => lane.group === group);
    if (named !== undefined) return named;
    const lane = { medium: name, group, counts: new LaneCounts() };
    lanes.push(lane);
    this.#isPlain = false;
    return lane;
  }

  #tell(name: string, keyed: KeyedEvent[]): void {
    if (this.#told.has(name)) return;
    this.#told.add(name);
    keyed.push({ type: "lane", name });
  }
}

function takeOne(lanes: readonly Lane[], group: number | null, handle: bigint): void {
  for (const lane of lanes) if (lane.group === group && lane.counts.take(handle)) return;
}

function sumOf(lanes: readonly Lane[], group: number | null, handle: bigint): number {
  let copies = 0;
  for (const lane of lanes) if (lane.group === group) copies += lane.counts.get(handle);
  return copies;
}

function nameOf(tier: Tier, medium: string | null): string {
  return tier === "gpu" ? GPU_MEDIUM : (medium ?? "").toUpperCase();
}

/** Whether it may name a lane in which copies are counted apart. */
export function isLaneName(name: unknown): name is string {
  return typeof name === "string" && /^(?:[A-Z0-9_]{1,32}|#\d{1,15})$/.test(name);
}
