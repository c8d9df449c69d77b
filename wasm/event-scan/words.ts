/** The words of the protocol. */
import * as layout from "./layout";

/** Of a map's fields a bit each; 0: another name. */
export const TYPE: u32 = 1;
export const BLOCK_HASHES: u32 = 2;
export const PARENT_BLOCK_HASH: u32 = 4;
export const TOKEN_IDS: u32 = 8;
export const BLOCK_SIZE: u32 = 16;
export const LORA_ID: u32 = 32;
export const MEDIUM: u32 = 64;
export const LORA_NAME: u32 = 128;
export const EXTRA_KEYS: u32 = 256;
export const GROUP_IDX: u32 = 512;
export const SPEC_KIND: u32 = 1024;
export const CACHE_SALT: u32 = 2048;
/** Known, and without a meaning here. */
export const IGNORED: u32 = 4096;

/** Texts told by a number, below that of any place in a payload. */
const GPU: u32 = 1;
const CPU: u32 = 2;
const FULL_ATTENTION: u32 = 3;

/** Each word's length, then its bytes and zeros up to a multiple of 8. */
let wordsEnd = memory.data(1024, 16);
const ALL_BLOCKS_CLEARED_AT = word("AllBlocksCleared");
const FULL_ATTENTION_AT = word("full_attention");
const TYPE_AT = word("type");
const BLOCK_HASHES_AT = word("block_hashes");
const PARENT_BLOCK_HASH_AT = word("parent_block_hash");
const TOKEN_IDS_AT = word("token_ids");
const BLOCK_SIZE_AT = word("block_size");
const LORA_ID_AT = word("lora_id");
const MEDIUM_AT = word("medium");
const LORA_NAME_AT = word("lora_name");
const EXTRA_KEYS_AT = word("extra_keys");
const GROUP_IDX_AT = word("group_idx");
const SPEC_KIND_AT = word("kv_cache_spec_kind");
const CACHE_SALT_AT = word("cache_salt");
const SLIDING_WINDOW_AT = word("kv_cache_spec_sliding_window");
const SESSION_ID_AT = word("session_id");
const LOCALITY_AT = word("locality");
const OWNERSHIP_AT = word("ownership");

function word(text: string): usize {
  const at = wordsEnd;
  const length = text.length;
  store<u32>(at, length);
  for (let place = 0; place < length; place += 1) store<u8>(at + 8 + place, <u8>text.charCodeAt(place));
  wordsEnd = (at + 8 + length + 7) & ~7;
  return at;
}

/** Whether the bytes are that word. */
function isWord(at: usize, length: u32, word: usize): bool {
  if (length != load<u32>(word)) return false;
  let left = length;
  for (word += 8; left >= 8; left -= 8, at += 8, word += 8) {
    if (load<u64>(at) != load<u64>(word)) return false;
  }
  return left == 0 || (load<u64>(at) ^ load<u64>(word)) << (64 - 8 * left) == 0;
}

/** What kind of event a tag means; 0: an unknown one. The usual two by their first and last 8 letters. */
export function kindOf(at: usize, length: u32): u32 {
  const first = load<u64>(at);
  const last = load<u64>(at + length - 8);
  if (length == 11 && first == 0x6f74_536b_636f_6c42 && last == 0x6465_726f_7453_6b63) {
    return layout.STORED;
  }
  if (length == 12 && first == 0x6d65_526b_636f_6c42 && last == 0x6465_766f_6d65_526b) {
    return layout.REMOVED;
  }
  return isWord(at, length, ALL_BLOCKS_CLEARED_AT) ? layout.CLEARED : 0;
}

/** 0: none of the known ones. */
export function knownOf(at: usize, length: u32): u32 {
  if (length == 3) {
    const letters = load<u32>(at) & 0xff_ffff;
    if (letters == 0x55_5047) return GPU;
    if (letters == 0x55_5043) return CPU;
  }
  return isWord(at, length, FULL_ATTENTION_AT) ? FULL_ATTENTION : 0;
}

export function fieldOf(at: usize, length: u32): u32 {
  switch (length) {
    case 4:
      return isWord(at, length, TYPE_AT) ? TYPE : 0;
    case 6:
      return isWord(at, length, MEDIUM_AT) ? MEDIUM : 0;
    case 7:
      return isWord(at, length, LORA_ID_AT) ? LORA_ID : 0;
    case 8:
      return isWord(at, length, LOCALITY_AT) ? IGNORED : 0;
    case 9:
      if (isWord(at, length, TOKEN_IDS_AT)) return TOKEN_IDS;
      if (isWord(at, length, LORA_NAME_AT)) return LORA_NAME;
      if (isWord(at, length, GROUP_IDX_AT)) return GROUP_IDX;
      return isWord(at, length, OWNERSHIP_AT) ? IGNORED : 0;
    case 10:
      if (isWord(at, length, BLOCK_SIZE_AT)) return BLOCK_SIZE;
      if (isWord(at, length, EXTRA_KEYS_AT)) return EXTRA_KEYS;
      if (isWord(at, length, CACHE_SALT_AT)) return CACHE_SALT;
      return isWord(at, length, SESSION_ID_AT) ? IGNORED : 0;
    case 12:
      return isWord(at, length, BLOCK_HASHES_AT) ? BLOCK_HASHES : 0;
    case 17:
      return isWord(at, length, PARENT_BLOCK_HASH_AT) ? PARENT_BLOCK_HASH : 0;
    case 18:
      return isWord(at, length, SPEC_KIND_AT) ? SPEC_KIND : 0;
    case 28:
      return isWord(at, length, SLIDING_WINDOW_AT) ? IGNORED : 0;
    default:
      return 0;
  }
}
