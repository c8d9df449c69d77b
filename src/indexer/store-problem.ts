/** Why the store of record does not do its work. */

/**
 * - taken: another process has opened it since, and keeps it
 * - unwritable: no right to write there, a read-only disk, or no folder
 * - disk-full: the disk, a quota or the largest allowed file is full; the disk took less than was written
 * - map-full: the address space has no room for a map of a larger file
 * - damaged: LMDB found its own pages broken
 * - foreign: the file is not one of this LMDB's
 * - failed: anything else; the message says what
 */
export type StoreProblem =
  | "taken"
  | "unwritable"
  | "disk-full"
  | "map-full"
  | "damaged"
  | "foreign"
  | "failed";

/** Codes of LMDB (lmdb.h) and of the system. */
const PROBLEM_OF_CODE: ReadonlyMap<unknown, StoreProblem> = new Map<unknown, StoreProblem>([
  // MAP_FULL; ENOMEM, which the system says of a map
  ...[-30_792, 12, "ENOMEM"].map((code) => [code, "map-full"] as const),
  // PAGE_NOTFOUND, CORRUPTED, PANIC, BAD_TXN
  ...[-30_797, -30_796, -30_795, -30_782].map((code) => [code, "damaged"] as const),
  // VERSION_MISMATCH, INVALID, INCOMPATIBLE
  ...[-30_794, -30_793, -30_784].map((code) => [code, "foreign"] as const),
  // ENOSPC, EFBIG, EDQUOT; EIO, which LMDB says where less was written than it gave
  ...[28, 27, 122, 5, "ENOSPC", "EFBIG", "EDQUOT"].map((code) => [code, "disk-full"] as const),
  // EPERM, EACCES, EEXIST (a file where the folder belongs), ENOTDIR, EISDIR, EROFS
  ...[1, 13, 17, 20, 21, 30].map((code) => [code, "unwritable"] as const),
  ...["EPERM", "EACCES", "EEXIST", "ENOTDIR", "EISDIR", "EROFS"].map(
    (code) => [code, "unwritable"] as const,
  ),
]);

/** Another process has opened the store since. */
export class StoreTaken extends Error {
  constructor() {
    super("another process has opened the store since");
    this.name = "StoreTaken";
  }
}

/** A larger file cannot be mapped. */
export class MapFull extends Error {
  constructor() {
    super("the address space (ulimit -v) has no room for a larger store");
    this.name = "MapFull";
  }
}

export function storeProblemOf(error: unknown): StoreProblem {
  if (error instanceof StoreTaken) return "taken";
  if (error instanceof MapFull) return "map-full";
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return PROBLEM_OF_CODE.get(code) ?? "failed";
}
