/** Lists of token ids and of hashes: msgpack's numbers to arrays of words. */
import { BEYOND } from "./layout";
import { copyCount } from "./values";

/** Numbers that are taken at once. */
const STEP: u32 = 3;
/** So many steps stay within 64 bytes, however wide their numbers are. */
const STEPS_MAX: u32 = 4;
/** Where the heads of a step's numbers can be. */
const HEADS: u32 = 0b101_0110_1001;
/** For each way in which heads of four bytes lie on these places: PLAN. */
const PLANS = memory.data(4 * (HEADS + 1), 16);
/** For each pattern of widths: where the bytes of three numbers come from. */
const SHUFFLES = memory.data(16 * 8, 16);

/** A plan: the pattern's place in SHUFFLES in 8 bits, the bytes of the step in 8, the heads it needs in 16. */
for (let fours: u32 = 0; fours <= HEADS; fours += 1) {
  let pattern: u32 = 0;
  let heads: u32 = 0;
  let at: u32 = 0;
  for (let number: u32 = 0; number < STEP; number += 1) {
    const isFour = (fours >> at) & 1;
    heads |= 1 << at;
    pattern |= isFour << number;
    at += 3 + 2 * isFour;
  }
  store<u32>(PLANS + 4 * fours, (pattern << 4) | (at << 8) | (heads << 16));
}
for (let pattern: u32 = 0; pattern < 8; pattern += 1) {
  let at: u32 = 0;
  for (let number: u32 = 0; number < STEP; number += 1) {
    const bytes: u32 = 2 + 2 * ((pattern >> number) & 1);
    for (let byte: u32 = 0; byte < 4; byte += 1) {
      // 0x80 brings a zero.
      const from = byte < bytes ? at + bytes - byte : 0x80;
      store<u8>(SHUFFLES + 16 * pattern + 4 * number + byte, <u8>from);
    }
    at += 1 + bytes;
  }
}

/**
 * Copies `count` unsigned integers of at most 32 bits to `to`; what is behind them changes as well.
 * Returns where they end; BEYOND where one is something else, or begins behind `end`.
 *
 * The place of a number follows from the width of the one before, which nothing foretells. So the heads
 * of the usual widths are looked for in 64 bytes at once, and three numbers are taken in one step whose
 * plan a table tells: neither a branch nor a load of the payload waits for the last number.
 */
export function copyTokens(from: usize, to: usize, count: u32, end: usize): usize {
  while (count >= STEP) {
    if (from >= end) return BEYOND;
    const fours = placesOf(from, 0xce);
    const wides = fours | placesOf(from, 0xcd);
    let steps = min(count / STEP, STEPS_MAX);
    count -= STEP * steps;
    let at: u64 = 0;
    do {
      const plan = load<u32>(PLANS + (<usize>((<u32>(fours >> at) & HEADS) << 2)));
      const heads = plan >> 16;
      const step = from + <usize>at;
      if ((<u32>(wides >> at) & heads) == heads) {
        const shuffle = v128.load(SHUFFLES + (plan & 0xff));
        v128.store(to, v128.swizzle(v128.load(step), shuffle));
        at += (plan >> 8) & 0xff;
      } else {
        const after = copyCount(copyCount(copyCount(step, to), to + 4), to + 8);
        // Of other widths, and so perhaps fewer bytes than what has been looked at.
        if (after >= BEYOND) return BEYOND;
        at += after - step;
      }
      to += 4 * STEP;
      steps -= 1;
    } while (steps > 0);
    from += <usize>at;
  }
  for (; count > 0; count -= 1, to += 4) {
    if (from >= end) return BEYOND;
    from = copyCount(from, to);
  }
  return from;
}

/** A bit for each of the 64 bytes that are `byte`. */
// @ts-ignore: decorator
@inline
function placesOf(at: usize, byte: u8): u64 {
  const wanted = i8x16.splat(byte);
  const a = <u64>(<u32>i8x16.bitmask(i8x16.eq(v128.load(at), wanted)));
  const b = <u64>(<u32>i8x16.bitmask(i8x16.eq(v128.load(at, 16), wanted)));
  const c = <u64>(<u32>i8x16.bitmask(i8x16.eq(v128.load(at, 32), wanted)));
  const d = <u64>(<u32>i8x16.bitmask(i8x16.eq(v128.load(at, 48), wanted)));
  return a | (b << 16) | (c << 32) | (d << 48);
}

/** Copies `count` hashes in the same way: integers, or the last 8 bytes of byte strings. */
// @ts-ignore: decorator
@inline
export function copyHashes(from: usize, to: usize, count: u32, end: usize): usize {
  const last = to + (<usize>count << 3);
  for (; to < last; to += 8) {
    if (from >= end) return BEYOND;
    const head = load<u8>(from);
    if (head == 0xcf || head == 0xd3) {
      store<u64>(to, bswap<u64>(load<u64>(from, 1)));
      from += 9;
    } else if (head == 0xc4) {
      const length = <usize>load<u8>(from, 1);
      if (length < 8) return BEYOND;
      from += 2 + length;
      store<u64>(to, bswap<u64>(load<u64>(from - 8)));
    } else {
      store<u32>(to, 0, 4);
      from = copyCount(from, to);
    }
  }
  return from;
}
