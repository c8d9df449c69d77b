/** A queue between a callback and the task that works it off in batches. */

export class BoundedQueue<Item> {
  readonly itemsMax: number;
  #items: Item[] = [];
  #wake: (() => void) | null = null;

  constructor(itemsMax: number) {
    this.itemsMax = itemsMax;
  }

  get length(): number {
    return this.#items.length;
  }

  /** False when the queue is full: the caller counts the refusal. */
  push(item: Item): boolean {
    if (this.#items.length >= this.itemsMax) return false;
    this.#items.push(item);
    this.#wake?.();
    return true;
  }

  /** Takes at most `itemsMax` items, oldest first; empty when there are none. */
  take(itemsMax: number): Item[] {
    if (itemsMax >= this.#items.length) {
      const all = this.#items;
      this.#items = [];
      return all;
    }
    return this.#items.splice(0, itemsMax);
  }

  /** Resolves once the queue is not empty or the signal aborts. One waiter at a time. */
  async wait(signal: AbortSignal): Promise<void> {
    if (this.#items.length > 0 || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#wake = null;
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#wake = done;
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
