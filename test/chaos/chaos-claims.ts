/** Which handles of an engine had which plain key: that of a block's tokens, whatever else it is made of. */
export class ChaosClaims {
  readonly #inLife = new Map<bigint, Set<bigint>>();
  readonly #ever = new Map<bigint, Set<bigint>>();

  add({ handle, plainKey }: { readonly handle: bigint; readonly plainKey: bigint }): void {
    for (const each of [this.#inLife, this.#ever]) {
      each.set(plainKey, (each.get(plainKey) ?? new Set()).add(handle));
    }
  }

  endLife(): void {
    this.#inLife.clear();
  }

  /** Handles that claimed a plain key in this life. */
  inLife(plainKey: bigint): number {
    return this.#inLife.get(plainKey)?.size ?? 0;
  }

  /** The same of all lives: of a new one nobody may have heard yet. */
  ever(plainKey: bigint): number {
    return this.#ever.get(plainKey)?.size ?? 0;
  }
}
