/**
 * Chained XXH64 of blocks, AssemblyScript; src/keys/block-hasher.ts says what a key is.
 *
 * The parent stands behind the tokens. Where a block is whole stripes of 32 bytes it enters only the
 * hash's last 8 bytes, so the stripes of the next blocks are computed while the chain of parents waits
 * for its multiplications. That chain alone takes 25 cycles a block, all of XXH64 at least 33
 * (multiplications at one per cycle).
 */

/** As many as the largest block has. */
export const TOKENS_MAX: u32 = 4096;
/** One block with its parent, where they cannot be hashed where they lie. */
const BLOCK_AT = memory.data(4 * TOKENS_MAX + 8, 16);

const P1: u64 = 0x9e3779b185ebca87;
const P2: u64 = 0xc2b2ae3d27d4eb4f;
const P3: u64 = 0x165667b19e3779f9;
const P4: u64 = 0x85ebca77c2b2ae63;
const P5: u64 = 0x27d4eb2f165667c5;
const P1_P2: u64 = P1 * P2;

/** Keys, from `to` on, of so many blocks whose token ids lie at `from`. `seed` is the deployment's. */
// @ts-ignore: decorator
@inline
export function chain(
  parent: u64,
  from: usize,
  blocks: u32,
  blockTokens: u32,
  seed: u64,
  to: usize,
): void {
  const bytes = <usize>blockTokens << 2;
  let key = parent;
  const end = from + <usize>blocks * bytes;
  if (blockTokens == 16) {
    const s1 = seed + P1 + P2;
    const s2 = seed + P2;
    const s4 = seed - P1;
    for (; from < end; from += 64, to += 8) {
      key = tail(twoStripes(from, s1, s2, seed, s4) + 72, key);
      store<u64>(to, key);
    }
  } else if ((blockTokens & 7) == 0) {
    for (; from < end; from += bytes, to += 8) {
      key = tail(stripes(from, bytes, seed) + bytes + 8, key);
      store<u64>(to, key);
    }
  } else {
    for (; from < end; from += bytes, to += 8) {
      memory.copy(BLOCK_AT, from, bytes);
      store<u64>(BLOCK_AT + bytes, key);
      key = xxh64(BLOCK_AT, bytes + 8, seed);
      store<u64>(to, key);
    }
  }
}

/** XXH64 of any bytes; `bytes` is a multiple of 4 here. */
function xxh64(at: usize, bytes: usize, seed: u64): u64 {
  const striped = bytes & ~31;
  let hash = (striped == 0 ? seed + P5 : stripes(at, striped, seed)) + bytes;
  let from = at + striped;
  const end = at + bytes;
  for (; from + 8 <= end; from += 8) hash = rotl(hash ^ round(0, load<u64>(from)), 27) * P1 + P4;
  if (from < end) hash = rotl(hash ^ (<u64>load<u32>(from) * P1), 23) * P2 + P3;
  return avalanche(hash);
}

/** The four lanes over whole stripes of 32 bytes, merged; without the length. */
// @ts-ignore: decorator
@inline
function stripes(at: usize, bytes: usize, seed: u64): u64 {
  let a = seed + P1 + P2;
  let b = seed + P2;
  let c = seed;
  let d = seed - P1;
  const end = at + bytes;
  do {
    a = round(a, load<u64>(at));
    b = round(b, load<u64>(at, 8));
    c = round(c, load<u64>(at, 16));
    d = round(d, load<u64>(at, 24));
    at += 32;
  } while (at < end);
  let hash = rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18);
  hash = (hash ^ round(0, a)) * P1 + P4;
  hash = (hash ^ round(0, b)) * P1 + P4;
  hash = (hash ^ round(0, c)) * P1 + P4;
  return (hash ^ round(0, d)) * P1 + P4;
}

/** The same of 64 bytes, from lanes that begin with these: without a loop, products left open. */
// @ts-ignore: decorator
@inline
function twoStripes(at: usize, s1: u64, s2: u64, s3: u64, s4: u64): u64 {
  const a = rotl(round(s1, load<u64>(at)) + load<u64>(at, 32) * P2, 31);
  const b = rotl(round(s2, load<u64>(at, 8)) + load<u64>(at, 40) * P2, 31);
  const c = rotl(round(s3, load<u64>(at, 16)) + load<u64>(at, 48) * P2, 31);
  const d = rotl(round(s4, load<u64>(at, 24)) + load<u64>(at, 56) * P2, 31);
  let hash = rotl(a * P1, 1) + rotl(b * P1, 7) + rotl(c * P1, 12) + rotl(d * P1, 18);
  hash = (hash ^ (rotl(a * P1_P2, 31) * P1)) * P1 + P4;
  hash = (hash ^ (rotl(b * P1_P2, 31) * P1)) * P1 + P4;
  hash = (hash ^ (rotl(c * P1_P2, 31) * P1)) * P1 + P4;
  return (hash ^ (rotl(d * P1_P2, 31) * P1)) * P1 + P4;
}

/** The parent as the last 8 bytes, and the end. */
// @ts-ignore: decorator
@inline
function tail(hash: u64, parent: u64): u64 {
  return avalanche(rotl(hash ^ round(0, parent), 27) * P1 + P4);
}

// @ts-ignore: decorator
@inline
function round(lane: u64, input: u64): u64 {
  return rotl(lane + input * P2, 31) * P1;
}

// @ts-ignore: decorator
@inline
function avalanche(hash: u64): u64 {
  hash ^= hash >> 33;
  hash *= P2;
  hash ^= hash >> 29;
  hash *= P3;
  return hash ^ (hash >> 32);
}
