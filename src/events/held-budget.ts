/** Memory of the live messages that all holders hold together while their replays run. */

/** Of all holders: each may hold much less by itself. Some seconds of a thousand busy engines. */
export const HELD_SUM_BYTES_MAX = 268_435_456;

export class HeldBudget {
  #bytes = 0;

  /** A holder's part of it. */
  share(): HeldShare {
    let own = 0;
    return {
      bytesMax: (): number => HELD_SUM_BYTES_MAX - (this.#bytes - own),
      settle: (bytes: number): void => {
        this.#bytes += bytes - own;
        own = bytes;
      },
    };
  }
}

export interface HeldShare {
  /** What the holder may hold in all. */
  bytesMax(): number;
  /** It holds so much now. */
  settle(bytes: number): void;
}
