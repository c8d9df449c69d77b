/** Copies of a block by where an engine of the chaos has them. */
import type { TruthBlock } from "./chaos-content.ts";

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
