/** Copies of a block by where an engine of the chaos has them. */
import { type ChainOf, PLAIN, type TruthBlock } from "./chaos-content.ts";

/** Tiers by place: gpu, cpu, nvme, shared; each with media that mean it. All of the GPU's are one. */
export const MEDIA: readonly (readonly string[])[] = [
  ["GPU", "gpu", "Device"],
  ["CPU", "CPU_PINNED", "Cpu_tier1"],
  ["DISK", "storage", "CPU_TIER2", "fs"],
  ["EXTERNAL", "remote"],
];

/** Where copies are: a tier, the place of a medium among the tier's, and a full group. */
export interface Lane {
  readonly tier: number;
  readonly medium: number;
  readonly group: number;
}

/** Media of a tier, and groups, at most. */
const MEDIA_MAX = 4;
const GROUPS_MAX = 3;

export class Held {
  readonly block: TruthBlock;
  readonly #lanes = new Uint16Array(MEDIA.length * MEDIA_MAX * GROUPS_MAX);
  #told: { readonly groups: number; readonly copies: readonly number[] } | null = null;

  constructor(block: TruthBlock) {
    this.block = block;
  }

  copies(lane: Lane): number {
    return this.#lanes[placeOf(lane)] ?? 0;
  }

  /** In each tier: of the group that has the fewest, of these, over all media. */
  usable(groups: ReadonlySet<number>): readonly number[] {
    // Groups are only added to.
    if (this.#told?.groups === groups.size) return this.#told.copies;
    const copies = MEDIA.map((_, tier) => {
      let fewest = Number.POSITIVE_INFINITY;
      for (const group of groups) {
        let sum = 0;
        for (let medium = 0; medium < MEDIA_MAX; medium += 1) {
          sum += this.copies({ tier, medium, group });
        }
        fewest = Math.min(fewest, sum);
      }
      return fewest;
    });
    this.#told = { groups: groups.size, copies };
    return copies;
  }

  add(lane: Lane, copies: number): void {
    const place = placeOf(lane);
    this.#lanes[place] = (this.#lanes[place] ?? 0) + copies;
    this.#told = null;
  }

  clear(isCleared: (tier: number) => boolean): void {
    const each = MEDIA_MAX * GROUPS_MAX;
    for (const tier of MEDIA.keys()) {
      if (isCleared(tier)) this.#lanes.fill(0, tier * each, (tier + 1) * each);
    }
    this.#told = null;
  }
}

function placeOf({ tier, medium, group }: Lane): number {
  return (tier * MEDIA_MAX + medium) * GROUPS_MAX + group;
}

/** How long a connector's chunk is believed; not a whole number, as no two times of messages differ by. */
export const HINT_LIFE_MS = 4000.5;
const CHUNK_TOKENS = 24;
/** A connector hashes by itself. */
const CHUNK_SEED = 999;

/** Chunks that a connector said it stored, each with the time until which that is believed. */
export class Hints {
  readonly #endMs = new Map<bigint, { readonly block: TruthBlock; readonly endMs: number }>();
  /** Handles of any life. */
  readonly #ever = new Set<bigint>();

  static chainOf(document: number): ChainOf {
    return { ...PLAIN, document, sizes: [CHUNK_TOKENS], hashSeed: CHUNK_SEED };
  }

  add(block: TruthBlock, atMs: number): void {
    this.#ever.add(block.handle);
    this.#endMs.set(block.handle, { block, endMs: atMs + HINT_LIFE_MS });
  }

  /** Whether it was ever one. */
  has(handle: bigint): boolean {
    return this.#ever.has(handle);
  }

  clear(): void {
    this.#endMs.clear();
  }

  /** Those that are believed at a time. */
  *at(atMs: number): Generator<TruthBlock> {
    for (const { block, endMs } of this.#endMs.values()) if (endMs > atMs) yield block;
  }
}
