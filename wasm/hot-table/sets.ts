/**
 * Sets of codes (holder's slot and tier), each kept once: what blocks of one chain share.
 *
 * Codes are sorted, so that a slot's first one is its fastest tier; one that is stored twice is in the
 * set twice. A set never changes: storing and removing lead to another one, and the way there is
 * remembered. A set whose last block leaves it is free at once, and its memory is used again; a reader
 * that looks at it then finds out by the version of the page that led there.
 */
import {
  ARENA_END,
  arenaAt,
  arenaUnitsMax,
  BUCKETS_AT,
  BUCKETS_MASK,
  DRAFT_AT,
  FREE_SETS,
  SETS,
  SET_CLASSES,
  SET_SERIAL,
  SET_UNIT_LOG,
  STEPS_AT,
  STEPS_LOG,
  STEP_BYTES,
} from "./layout";

/** The set without codes. */
export const EMPTY_SET: u32 = 0;
/** No set: the arena is full, or the set would be too large. */
export const NO_SET: u32 = u32.MAX_VALUE;

/** Blocks that have it; sum of its codes' hashes; next in its bucket or list; number ever given. */
const REFS: usize = 0;
const HASH: usize = 4;
const NEXT: usize = 8;
const SERIAL: usize = 12;
const LENGTH: usize = 16;
const CLASS: usize = 18;
/** Whether a code of the shared tier is among them. */
const IS_SHARED: usize = 19;
const CODES: usize = 20;
const CODES_MAX: u32 = ((1 << (SET_UNIT_LOG + SET_CLASSES - 1)) - <u32>CODES) / 2;

const TIER_MASK: u32 = 3;
const SHARED_TIER: u32 = 3;

// @ts-ignore: decorator
@inline
function at(set: u32): usize {
  return arenaAt + (<usize>set << SET_UNIT_LOG);
}

// @ts-ignore: decorator
@inline
export function lengthOf(set: u32): u32 {
  return load<u16>(at(set), LENGTH);
}

// @ts-ignore: decorator
@inline
export function codesAt(set: u32): usize {
  return at(set) + CODES;
}

// @ts-ignore: decorator
@inline
export function isShared(set: u32): bool {
  return load<u8>(at(set), IS_SHARED) != 0;
}

export function initSets(): void {
  // The empty set has the first unit, so that its length reads as 0.
  store<u32>(ARENA_END, 1);
}

// @ts-ignore: decorator
@inline
export function retain(set: u32, blocks: u32): void {
  if (set != EMPTY_SET) store<u32>(at(set), load<u32>(at(set), REFS) + blocks, REFS);
}

// @ts-ignore: decorator
@inline
export function release(set: u32, blocks: u32): void {
  if (set == EMPTY_SET) return;
  const refs = load<u32>(at(set), REFS) - blocks;
  store<u32>(at(set), refs, REFS);
  if (refs == 0) free(set);
}

/** Whether a holder's slot has a code in it, of whatever tier. */
export function hasSlot(set: u32, slot: u32): bool {
  const codes = codesAt(set);
  for (let i: u32 = 0; i < lengthOf(set); i += 1) {
    if (<u32>load<u16>(codes + 2 * i) >> 2 == slot) return true;
  }
  return false;
}

/** The set with one more such code, or NO_SET. */
export function withCode(set: u32, code: u32): u32 {
  return step(set, code, 1);
}

/** The set with one such code fewer; the same set where there is none. */
export function withoutCode(set: u32, code: u32): u32 {
  return step(set, code, 0);
}

function step(set: u32, code: u32, isStore: u32): u32 {
  const serial = load<u32>(at(set), SERIAL);
  const way = 2 * code + isStore;
  const place = (serial * 0x9e3779b1 + way * 0x85ebca6b) >> (32 - STEPS_LOG);
  const cell = STEPS_AT + <usize>place * STEP_BYTES;
  // Numbers of sets are used again, serials are not.
  if (load<u32>(cell) == serial && load<u32>(cell, 4) == way + 1) {
    const reached = load<u32>(cell, 8);
    if (load<u32>(at(reached), SERIAL) == load<u32>(cell, 12)) return reached;
  }
  const reached = isStore ? add(set, code) : take(set, code);
  if (reached == NO_SET) return NO_SET;
  store<u32>(cell, serial);
  store<u32>(cell, way + 1, 4);
  store<u32>(cell, reached, 8);
  store<u32>(cell, load<u32>(at(reached), SERIAL), 12);
  return reached;
}

function add(set: u32, code: u32): u32 {
  const length = lengthOf(set);
  if (length == CODES_MAX) return NO_SET;
  const codes = codesAt(set);
  let position = length;
  while (position > 0 && load<u16>(codes + 2 * (position - 1)) > code) position -= 1;
  memory.copy(DRAFT_AT, codes, 2 * position);
  store<u16>(DRAFT_AT + 2 * position, code);
  memory.copy(DRAFT_AT + 2 * position + 2, codes + 2 * position, 2 * (length - position));
  return intern(length + 1, hashOf(set) + mix(code));
}

function take(set: u32, code: u32): u32 {
  const length = lengthOf(set);
  const codes = codesAt(set);
  let position: u32 = 0;
  while (position < length && load<u16>(codes + 2 * position) != code) position += 1;
  if (position == length) return set;
  if (length == 1) return EMPTY_SET;
  memory.copy(DRAFT_AT, codes, 2 * position);
  memory.copy(DRAFT_AT + 2 * position, codes + 2 * position + 2, 2 * (length - position - 1));
  return intern(length - 1, hashOf(set) - mix(code));
}

/** The set of the draft's codes: a known one, or a new one without blocks. */
function intern(length: u32, hash: u32): u32 {
  const bucket = BUCKETS_AT + (<usize>(hash & BUCKETS_MASK) << 2);
  const first = load<u32>(bucket);
  for (let set = first; set != EMPTY_SET; set = load<u32>(at(set), NEXT)) {
    if (
      hashOf(set) == hash &&
      lengthOf(set) == length &&
      memory.compare(codesAt(set), DRAFT_AT, 2 * length) == 0
    ) {
      return set;
    }
  }
  const set = allocate(length);
  if (set == NO_SET) return NO_SET;
  const serial = load<u32>(SET_SERIAL) + 1;
  store<u32>(SET_SERIAL, serial);
  store<u32>(SETS, load<u32>(SETS) + 1);
  store<u32>(at(set), 0, REFS);
  store<u32>(at(set), hash, HASH);
  store<u32>(at(set), first, NEXT);
  store<u32>(at(set), serial, SERIAL);
  store<u16>(at(set), length, LENGTH);
  let anyShared = false;
  for (let i: u32 = 0; i < length; i += 1) {
    if ((load<u16>(DRAFT_AT + 2 * i) & TIER_MASK) == SHARED_TIER) anyShared = true;
  }
  store<u8>(at(set), anyShared ? 1 : 0, IS_SHARED);
  memory.copy(codesAt(set), DRAFT_AT, 2 * length);
  store<u32>(bucket, set);
  return set;
}

/** Frees a set that nothing refers to any more, or that was made for nothing. */
export function free(set: u32): void {
  const bucket = BUCKETS_AT + (<usize>(hashOf(set) & BUCKETS_MASK) << 2);
  if (load<u32>(bucket) == set) store<u32>(bucket, load<u32>(at(set), NEXT));
  else {
    let before = load<u32>(bucket);
    while (load<u32>(at(before), NEXT) != set) before = load<u32>(at(before), NEXT);
    store<u32>(at(before), load<u32>(at(set), NEXT), NEXT);
  }
  const list = FREE_SETS + (<usize>load<u8>(at(set), CLASS) << 2);
  store<u32>(at(set), load<u32>(list), NEXT);
  store<u32>(at(set), 0, SERIAL);
  store<u32>(list, set);
  store<u32>(SETS, load<u32>(SETS) - 1);
}

export function isUnused(set: u32): bool {
  return set != EMPTY_SET && set != NO_SET && load<u32>(at(set), REFS) == 0;
}

/** Memory for so many codes: a freed set of the class, or the arena's next units. */
function allocate(length: u32): u32 {
  let setClass: u32 = 0;
  while (((<u32>1 << (SET_UNIT_LOG + setClass)) - <u32>CODES) / 2 < length) setClass += 1;
  const list = FREE_SETS + (<usize>setClass << 2);
  const freed = load<u32>(list);
  if (freed != EMPTY_SET) {
    store<u32>(list, load<u32>(at(freed), NEXT));
    return freed;
  }
  const set = load<u32>(ARENA_END);
  if (set + (1 << setClass) > arenaUnitsMax) return NO_SET;
  store<u32>(ARENA_END, set + (1 << setClass));
  store<u8>(at(set), setClass, CLASS);
  return set;
}

// @ts-ignore: decorator
@inline
function hashOf(set: u32): u32 {
  return load<u32>(at(set), HASH);
}

function mix(code: u32): u32 {
  const mixed = (code + 1) * 0x9e3779b1;
  return (mixed ^ (mixed >> 15)) * 0x85ebca6b;
}
