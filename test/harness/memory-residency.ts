/**
 * The plain residency: maps of maps, written for clarity. The oracle of Residency, and with it of what
 * the store gives back.
 */
import { type Holder, holderName } from "../../src/core/ids.ts";
import type { HolderCursor } from "../../src/indexer/residency.ts";
import { TIERS, type Tier, tierOrder } from "../../src/tiers/tier.ts";

interface Block {
  readonly key: bigint;
  readonly copies: number[];
}

interface Held {
  cursor: HolderCursor | null;
  readonly blocks: Map<bigint, Block>;
  /** Keys that two handles have claimed. */
  readonly ambiguous: Set<bigint>;
}

export class MemoryResidency {
  readonly #holders = new Map<string, Held>();

  stored(holder: Holder, tier: Tier, handles: BigUint64Array, keys: BigUint64Array): void {
    const { blocks, ambiguous } = this.#held(holder);
    for (const [position, handle] of handles.entries()) {
      const key = keys[position] ?? 0n;
      const isTaken = [...blocks.values()].some((other) => other.key === key);
      if (!blocks.has(handle) && isTaken) ambiguous.add(key);
      const block = blocks.get(handle) ?? { key, copies: TIERS.map(() => 0) };
      block.copies[tierOrder(tier)] = (block.copies[tierOrder(tier)] ?? 0) + 1;
      blocks.set(handle, block);
    }
  }

  /** How many were not known in that tier. */
  removed(holder: Holder, tier: Tier, handles: BigUint64Array): number {
    const { blocks } = this.#held(holder);
    let unknown = 0;
    for (const handle of handles) {
      const block = blocks.get(handle);
      const copies = block?.copies[tierOrder(tier)] ?? 0;
      if (block === undefined || copies === 0) {
        unknown += 1;
        continue;
      }
      block.copies[tierOrder(tier)] = copies - 1;
      if (block.copies.every((count) => count === 0)) blocks.delete(handle);
    }
    return unknown;
  }

  ambiguous(holder: Holder, keys: BigUint64Array): void {
    for (const key of keys) this.#held(holder).ambiguous.add(key);
  }

  /** Sorted. */
  ambiguousOf(holder: Holder): bigint[] {
    return [...(this.#holders.get(holderName(holder))?.ambiguous ?? [])].sort();
  }

  startAnew(holder: Holder): void {
    this.cleared(holder);
    this.#held(holder).ambiguous.clear();
  }

  cleared(holder: Holder): void {
    this.#held(holder).blocks.clear();
  }

  forget(holder: Holder): void {
    this.#holders.delete(holderName(holder));
  }

  setCursor(holder: Holder, cursor: HolderCursor): void {
    this.#held(holder).cursor = cursor;
  }

  cursorOf(holder: Holder): HolderCursor | null {
    return this.#holders.get(holderName(holder))?.cursor ?? null;
  }

  /** "handle: key copies" of each block, sorted. */
  blocksOf(holder: Holder): string[] {
    const blocks = this.#holders.get(holderName(holder))?.blocks ?? new Map<bigint, Block>();
    return [...blocks].map(([handle, { key, copies }]) => `${handle}: ${key} ${copies}`).sort();
  }

  /** "holder tier" of each entry that the index must have for a key, sorted; once for each handle. */
  entriesOf(key: bigint, holders: readonly Holder[]): string[] {
    return holders
      .flatMap((holder) => {
        const name = holderName(holder);
        const held = this.#holders.get(name);
        if (held === undefined || held.ambiguous.has(key)) return [];
        const blocks = [...held.blocks.values()];
        return blocks
          .filter((block) => block.key === key)
          .flatMap(({ copies }) => TIERS.filter((_, order) => (copies[order] ?? 0) > 0))
          .map((tier) => `${name} ${tier}`);
      })
      .sort();
  }

  #held(holder: Holder): Held {
    const name = holderName(holder);
    const held = this.#holders.get(name) ?? {
      cursor: null,
      blocks: new Map<bigint, Block>(),
      ambiguous: new Set<bigint>(),
    };
    this.#holders.set(name, held);
    return held;
  }
}
