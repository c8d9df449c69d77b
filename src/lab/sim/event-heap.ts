/** What happens next in simulated time: a binary heap, in order of time, equal times in order of entry. */

interface TimedEvent {
  readonly atSeconds: number;
  readonly entry: number;
  readonly run: () => void | Promise<void>;
}

export class EventHeap {
  readonly #heap: TimedEvent[] = [];
  #entries = 0;

  get size(): number {
    return this.#heap.length;
  }

  add(atSeconds: number, run: TimedEvent["run"]): void {
    const heap = this.#heap;
    this.#entries += 1;
    const event = { atSeconds, entry: this.#entries, run };
    let place = heap.length;
    heap.push(event);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || isBefore(above, event)) break;
      heap[place] = above;
      place = parent;
    }
    heap[place] = event;
  }

  /** Takes the next event; undefined when there is none. */
  take(): TimedEvent | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let place = 0;
    for (;;) {
      const left = 2 * place + 1;
      const leftEvent = heap[left];
      if (leftEvent === undefined) break;
      const rightEvent = heap[left + 1];
      const isRight = rightEvent !== undefined && isBefore(rightEvent, leftEvent);
      const child = isRight ? rightEvent : leftEvent;
      if (isBefore(last, child)) break;
      heap[place] = child;
      place = isRight ? left + 1 : left;
    }
    heap[place] = last;
    return first;
  }
}

function isBefore(a: TimedEvent, b: TimedEvent): boolean {
  return a.atSeconds < b.atSeconds || (a.atSeconds === b.atSeconds && a.entry < b.entry);
}
