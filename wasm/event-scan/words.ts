/**
 * The words of the protocol, told by numbers: 8 letters each, the first one lowest, zeros behind fewer
 * (`Buffer.from(letters).readBigUInt64LE()`). Words of 9 to 16 letters by their first and last 8.
 */
import * as layout from "./layout";

/** Texts told by a number, below that of any place in a payload. */
const GPU: u32 = 1;
const CPU: u32 = 2;
const FULL_ATTENTION: u32 = 3;

/** What kind of event a tag means; 0: an unknown one. */
// @ts-ignore: decorator
@inline
export function kindOf(at: usize, length: u32): u32 {
  // BlockStored
  if (length == 11 && isWord(at, length, 0x6f74_536b_636f_6c42, 0x6465_726f_7453_6b63)) {
    return layout.STORED;
  }
  // BlockRemoved
  if (length == 12 && isWord(at, length, 0x6d65_526b_636f_6c42, 0x6465_766f_6d65_526b)) {
    return layout.REMOVED;
  }
  // AllBlocksCleared
  if (length == 16 && isWord(at, length, 0x6b63_6f6c_426c_6c41, 0x6465_7261_656c_4373)) {
    return layout.CLEARED;
  }
  return 0;
}

/** GPU, CPU, full_attention; 0: another text. */
// @ts-ignore: decorator
@inline
export function knownOf(at: usize, length: u32): u32 {
  if (length == 3) {
    const letters = load<u32>(at) & 0xff_ffff;
    return letters == 0x55_5047 ? GPU : letters == 0x55_5043 ? CPU : 0;
  }
  if (length != 14) return 0;
  return isWord(at, length, 0x7474_615f_6c6c_7566, 0x6e6f_6974_6e65_7474) ? FULL_ATTENTION : 0;
}

// @ts-ignore: decorator
@inline
function isWord(at: usize, length: u32, first: u64, last: u64): bool {
  return load<u64>(at) == first && load<u64>(at + length - 8) == last;
}

/** Whether a text of at most 16 letters comes next, its head included. */
// @ts-ignore: decorator
@inline
function isNext(at: usize, length: u32, first: u64, last: u64): bool {
  return load<u8>(at) == (0xa0 | length) && isWord(at + 1, length, first, last);
}

/** The same of fewer than 8 letters. */
// @ts-ignore: decorator
@inline
function isShortNext(at: usize, length: u32, letters: u64): bool {
  return load<u8>(at) == (0xa0 | length) && load<u64>(at, 1) << (64 - 8 * length) == letters << (64 - 8 * length);
}

/** type */
// @ts-ignore: decorator
@inline
export function isType(at: usize): bool {
  return isShortNext(at, 4, 0x0000_0000_6570_7974);
}

/** block_hashes */
// @ts-ignore: decorator
@inline
export function isBlockHashes(at: usize): bool {
  return isNext(at, 12, 0x6168_5f6b_636f_6c62, 0x7365_6873_6168_5f6b);
}

/** parent_block_hash */
// @ts-ignore: decorator
@inline
export function isParentBlockHash(at: usize): bool {
  return (
    isNext(at, 17, 0x625f_746e_6572_6170, 0x6873_6168_5f6b_636f) &&
    load<u64>(at, 9) == 0x7361_685f_6b63_6f6c
  );
}

/** token_ids */
// @ts-ignore: decorator
@inline
export function isTokenIds(at: usize): bool {
  return isNext(at, 9, 0x6469_5f6e_656b_6f74, 0x7364_695f_6e65_6b6f);
}

/** block_size */
// @ts-ignore: decorator
@inline
export function isBlockSize(at: usize): bool {
  return isNext(at, 10, 0x6973_5f6b_636f_6c62, 0x657a_6973_5f6b_636f);
}

/** lora_id */
// @ts-ignore: decorator
@inline
export function isLoraId(at: usize): bool {
  return isShortNext(at, 7, 0x0064_695f_6172_6f6c);
}

/** medium */
// @ts-ignore: decorator
@inline
export function isMedium(at: usize): bool {
  return isShortNext(at, 6, 0x0000_6d75_6964_656d);
}

/** lora_name */
// @ts-ignore: decorator
@inline
export function isLoraName(at: usize): bool {
  return isNext(at, 9, 0x6d61_6e5f_6172_6f6c, 0x656d_616e_5f61_726f);
}

/** extra_keys */
// @ts-ignore: decorator
@inline
export function isExtraKeys(at: usize): bool {
  return isNext(at, 10, 0x656b_5f61_7274_7865, 0x7379_656b_5f61_7274);
}

/** group_idx */
// @ts-ignore: decorator
@inline
export function isGroupIdx(at: usize): bool {
  return isNext(at, 9, 0x6469_5f70_756f_7267, 0x7864_695f_7075_6f72);
}

/** kv_cache_spec_kind */
// @ts-ignore: decorator
@inline
export function isKvCacheSpecKind(at: usize): bool {
  return (
    isNext(at, 18, 0x6568_6361_635f_766b, 0x646e_696b_5f63_6570) &&
    load<u64>(at, 9) == 0x696b_5f63_6570_735f
  );
}

/** kv_cache_spec_sliding_window */
// @ts-ignore: decorator
@inline
export function isKvCacheSpecSlidingWindow(at: usize): bool {
  return (
    isNext(at, 28, 0x6568_6361_635f_766b, 0x776f_646e_6977_5f67) &&
    load<u64>(at, 9) == 0x6c73_5f63_6570_735f &&
    load<u64>(at, 17) == 0x6977_5f67_6e69_6469
  );
}

/** cache_salt */
// @ts-ignore: decorator
@inline
export function isCacheSalt(at: usize): bool {
  return isNext(at, 10, 0x6173_5f65_6863_6163, 0x746c_6173_5f65_6863);
}

/** session_id */
// @ts-ignore: decorator
@inline
export function isSessionId(at: usize): bool {
  return isNext(at, 10, 0x5f6e_6f69_7373_6573, 0x6469_5f6e_6f69_7373);
}

/** locality */
// @ts-ignore: decorator
@inline
export function isLocality(at: usize): bool {
  return isNext(at, 8, 0x7974_696c_6163_6f6c, 0x7974_696c_6163_6f6c);
}

/** ownership */
// @ts-ignore: decorator
@inline
export function isOwnership(at: usize): bool {
  return isNext(at, 9, 0x6968_7372_656e_776f, 0x7069_6873_7265_6e77);
}
