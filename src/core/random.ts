/** Chance as a port: seeded, so that a run can be repeated. */

export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
}

/** mulberry32 (public domain, Tommy Ettinger): 32-bit state, enough for tie-breaks and workloads. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return {
    next: (): number => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
    },
  };
}
