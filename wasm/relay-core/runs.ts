/**
 * Runs of plain events: neighbours of one kind that differ in handles, tokens and parent alone, of the GPU,
 * and tell nothing that would need a look at each. src/events/store-runs.ts and removal-runs.ts do the same
 * for events of any decoder.
 */
import { TOKENS_MAX } from "../block-keys/chain";
import * as scan from "../event-scan/layout";
import { BLOCKS, EVENTS, FIRST, HASHES_FROM, RUN_BLOCKS_MAX, runAt, RUNS_MAX, TOKENS_FROM } from "./layout";

/** Known texts, event-scan/words.ts. */
const GPU: u32 = 1;
const FULL_ATTENTION: u32 = 3;
/** What needs a look at each: adapters, salts and images. */
const TOLD_MORE: u32 = scan.TOLD_EXTRAS | scan.TOLD_LORA_ID;

/** Puts the first `events` records together; returns how many runs there are, 0: they are not all plain. */
export function plan(events: u32): u32 {
  let runs: u32 = 0;
  let run: usize = 0;
  let before: usize = 0;
  let hashes: u32 = 0;
  let tokens: u32 = 0;
  for (let event: u32 = 0; event < events; event += 1) {
    const record = recordAt(event);
    if (!isPlain(record)) return 0;
    if (event == 0 || !isAlike(record, before)) {
      if (runs == RUNS_MAX) return 0;
      run = runAt(runs);
      runs += 1;
      store<u32>(run, event, FIRST);
      store<u32>(run, 0, EVENTS);
      store<u32>(run, hashes, HASHES_FROM);
      store<u32>(run, 0, BLOCKS);
      store<u32>(run, tokens, TOKENS_FROM);
    }
    const blocks = load<u32>(run, BLOCKS) + load<u32>(record, scan.HASHES);
    if (blocks > RUN_BLOCKS_MAX) return 0;
    store<u32>(run, load<u32>(run, EVENTS) + 1, EVENTS);
    store<u32>(run, blocks, BLOCKS);
    hashes += load<u32>(record, scan.HASHES);
    tokens += load<u32>(record, scan.TOKENS);
    before = record;
  }
  return runs;
}

// @ts-ignore: decorator
@inline
export function recordAt(event: u32): usize {
  return scan.RECORDS_AT + <usize>event * scan.RECORD_BYTES;
}

// @ts-ignore: decorator
@inline
function isPlain(record: usize): bool {
  const kind = load<u32>(record, scan.KIND);
  const hashes = load<u32>(record, scan.HASHES);
  if (hashes == 0 || load<u32>(record, scan.MEDIUM) > GPU) return false;
  if (kind != scan.STORED) return kind == scan.REMOVED;
  const told = load<u32>(record, scan.TOLD);
  const size = load<u32>(record, scan.BLOCK_SIZE);
  const specKind = load<u32>(record, scan.SPEC_KIND);
  if ((told & TOLD_MORE) != 0 || size == 0 || size > TOKENS_MAX) return false;
  if ((told & scan.TOLD_NO_EXTRAS) != 0 && load<u32>(record, scan.EXTRAS) != hashes) return false;
  if ((load<u32>(record, scan.LORA_NAME) | load<u32>(record, scan.CACHE_SALT)) != 0) return false;
  if (specKind != 0 && specKind != FULL_ATTENTION) return false;
  return <u64>load<u32>(record, scan.TOKENS) == <u64>hashes * size;
}

// @ts-ignore: decorator
@inline
function isAlike(record: usize, other: usize): bool {
  return (
    same(record, other, scan.KIND) &&
    same(record, other, scan.MEDIUM) &&
    same(record, other, scan.BLOCK_SIZE) &&
    same(record, other, scan.GROUP) &&
    same(record, other, scan.SPEC_KIND) &&
    ((load<u32>(record, scan.TOLD) ^ load<u32>(other, scan.TOLD)) & scan.TOLD_GROUP) == 0
  );
}

// @ts-ignore: decorator
@inline
function same(record: usize, other: usize, field: usize): bool {
  return load<u32>(record + field) == load<u32>(other + field);
}
