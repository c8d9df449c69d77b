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

export class Held {
  readonly block: TruthBlock;
  readonly #lanes = new Map<string, number>();

  constructor(block: TruthBlock) {
    this.block = block;
  }

  copies({ tier, medium, group }: Lane): number {
    return this.#lanes.get(`${tier} ${medium} ${group}`) ?? 0;
  }

  add({ tier, medium, group }: Lane, copies: number): void {
    const lane = `${tier} ${medium} ${group}`;
    this.#lanes.set(lane, (this.#lanes.get(lane) ?? 0) + copies);
  }

  clear(isCleared: (tier: number) => boolean): void {
    for (const lane of this.#lanes.keys()) {
      if (isCleared(Number(lane.split(" ")[0]))) this.#lanes.delete(lane);
    }
  }
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
