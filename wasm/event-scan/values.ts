/**
 * Single msgpack values: each is read at `from` and put where it is wanted; returned is where it ends,
 * BEYOND where it is something else.
 */
import { BEYOND } from "./layout";

/** An unsigned integer of at most 32 bits. */
// @ts-ignore: decorator
@inline
export function copyCount(from: usize, to: usize): usize {
  const head = <u32>load<u8>(from);
  if (head < 0x80) {
    store<u32>(to, head);
    return from + 1;
  }
  if (head == 0xcd) {
    store<u32>(to, bswap<u16>(load<u16>(from, 1)));
    return from + 3;
  }
  if (head == 0xcc) {
    store<u32>(to, load<u8>(from, 1));
    return from + 2;
  }
  if (head != 0xce) return BEYOND;
  store<u32>(to, bswap<u32>(load<u32>(from, 1)));
  return from + 5;
}

/** How many values an array has; each takes a byte at least. */
// @ts-ignore: decorator
@inline
export function copyArrayLength(from: usize, to: usize, end: usize): usize {
  const head = <u32>load<u8>(from);
  let length = head & 0x0f;
  let after = from + 1;
  if (head == 0xdc) {
    length = bswap<u16>(load<u16>(from, 1));
    after = from + 3;
  } else if (head == 0xdd) {
    length = bswap<u32>(load<u32>(from, 1));
    after = from + 5;
  } else if (head < 0x90 || head >= 0xa0) return BEYOND;
  if (after > end || length > <u32>(end - after)) return BEYOND;
  store<u32>(to, length);
  return after;
}

/** How many bytes a text has, at most 255, all of which are there. */
// @ts-ignore: decorator
@inline
export function copyTextLength(from: usize, to: usize, end: usize): usize {
  const head = <u32>load<u8>(from);
  let length = head & 0x1f;
  let after = from + 1;
  if (head == 0xd9) {
    length = load<u8>(from, 1);
    after = from + 2;
  } else if (head < 0xa0 || head >= 0xc0) return BEYOND;
  if (after + length > end) return BEYOND;
  store<u32>(to, length);
  return after;
}
