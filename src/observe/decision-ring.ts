/** The newest records by request id: what `kvatlas why` asks for. Bounded; the oldest make room. */
export class DecisionRing<Kept> {
  readonly #recordsMax: number;
  /** In order of entry. */
  readonly #records = new Map<string, Kept>();
  #forgotten = 0;

  /** `recordsMax` 0 keeps none. */
  constructor(recordsMax: number) {
    this.#recordsMax = recordsMax;
  }

  get size(): number {
    return this.#records.size;
  }

  /** Records that have made room since the start. */
  get forgotten(): number {
    return this.#forgotten;
  }

  /** A request id that was used before stands for its newest record. */
  add(requestId: string, record: Kept): void {
    this.#records.delete(requestId);
    this.#records.set(requestId, record);
    for (const oldest of this.#records.keys()) {
      if (this.#records.size <= this.#recordsMax) return;
      this.#records.delete(oldest);
      this.#forgotten += 1;
    }
  }

  find(requestId: string): Kept | null {
    return this.#records.get(requestId) ?? null;
  }
}
