/** What entered and left one tier of one pod since it was last told: the net difference. */
export class ChangeSet {
  readonly #entered = new Set<number>();
  readonly #left = new Set<number>();

  enter(block: number): void {
    if (!this.#left.delete(block)) this.#entered.add(block);
  }

  leave(block: number): void {
    if (!this.#entered.delete(block)) this.#left.add(block);
  }

  take(): { readonly stored: readonly number[]; readonly removed: readonly number[] } {
    if (this.#entered.size + this.#left.size === 0) return NOTHING;
    const change = { stored: [...this.#entered], removed: [...this.#left] };
    this.#entered.clear();
    this.#left.clear();
    return change;
  }
}

const NOTHING = { stored: [], removed: [] } as const;
