/**
 * Where everything lies in the memory of one instance: as much as the limits need, so that it never
 * grows. What has not been touched takes no memory of the machine.
 */

/** A longer payload is the general decoder's. */
export const SCAN_BYTES_MAX: u32 = 4_194_304;
export const EVENTS_MAX: u32 = 16_384;
/** Values in all lists of one message, a hash as HASH_SLOTS of them. */
export const LISTED_MAX: u32 = 1_048_576;
export const HASH_SLOTS: u32 = 4;
export const EXTRA_SLOTS: u32 = 16;
/** What may be read behind a payload before its end is looked for. */
const SLACK_BYTES: u32 = 4096;

/** What is told of the batch: f64 of its time, then words. */
export const BATCH_AT = memory.data(32, 16);
export const BATCH_RANK: usize = 8;
export const BATCH_TOKENS: usize = 12;
export const BATCH_HASHES: usize = 16;
/** Runs that its events make; 0: they are not all plain. */
export const BATCH_RUNS: usize = 20;

export const RECORD_BYTES: u32 = 64;
export const RECORDS_AT = memory.data(64 * EVENTS_MAX, 16);
/** Pieces of 16 bytes are turned round: the last one may reach behind the list. */
export const TOKENS_AT = memory.data(4 * LISTED_MAX + 16, 16);
export const HASHES_AT = memory.data((8 * LISTED_MAX) / HASH_SLOTS + 16, 16);
export const PAYLOAD_AT = memory.data(SCAN_BYTES_MAX + 2 * SLACK_BYTES, 16);
/** No payload reaches so far: where a scan is that has given up. */
export const BEYOND = PAYLOAD_AT + SCAN_BYTES_MAX + SLACK_BYTES;

/** An event's words; what is not told is 0. */
export const KIND: usize = 0;
export const HASHES: usize = 4;
export const TOKENS: usize = 8;
export const BLOCK_SIZE: usize = 12;
/** Bits of what is told and may be 0. */
export const TOLD: usize = 16;
export const LORA_ID: usize = 20;
export const GROUP: usize = 24;
/** Blocks that have none, or where all of them lie in the payload, and on how many bytes. */
export const EXTRAS: usize = 28;
export const EXTRAS_BYTES: usize = 56;
/** Texts: offset in the payload << 8 | length, or the number of a known word. */
export const MEDIUM: usize = 32;
export const LORA_NAME: usize = 36;
export const SPEC_KIND: usize = 40;
export const CACHE_SALT: usize = 44;
export const PARENT: usize = 48;

export const STORED: u32 = 1;
export const REMOVED: u32 = 2;
export const CLEARED: u32 = 3;

export const TOLD_PARENT: u32 = 1;
export const TOLD_LORA_ID: u32 = 2;
export const TOLD_GROUP: u32 = 4;
export const TOLD_NO_EXTRAS: u32 = 8;
export const TOLD_EXTRAS: u32 = 16;
