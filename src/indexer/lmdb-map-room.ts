/**
 * Whether LMDB can map what a write makes of its file.
 *
 * The library maps a larger file amid a transaction, twice as large as it needs, and keeps the former
 * maps; where the address space ends there, it ends the process.
 */
import type { RootDatabase } from "lmdb";
import { addressSpaceLeft } from "./process-address-space.ts";
import { MapFull } from "./store-problem.ts";

const PAGE_BYTES = 4096;
/** Pages of the file that a holder's row or its end writes, with the way to them. */
const PAGES_PER_HOLDER = 8;
/** Address space that is left to others. */
const SPARE_BYTES = 67_108_864;

/** Of what the library tells of a store: bytes mapped, and pages written so far. */
interface MapStats {
  readonly mapSize: number;
  readonly lastPageNumber: number;
}

/** Throws MapFull where a write of so many bytes and holders may find no room. */
export function requireMap(
  root: RootDatabase<Buffer, string>,
  bytes: number,
  holders: number,
): void {
  const bytesLeft = addressSpaceLeft();
  // The library's statistics count the free pages: only who has a limit pays for that.
  if (bytesLeft === Number.POSITIVE_INFINITY) return;
  const { mapSize, lastPageNumber } = root.getStats() as MapStats;
  const pages = lastPageNumber + PAGES_PER_HOLDER * (holders + 1);
  // Pages are not full, and none is written where it was.
  const bytesMax = 2 * bytes + PAGE_BYTES * pages;
  if (bytesMax < mapSize) return;
  if (2 * bytesMax + SPARE_BYTES > bytesLeft) throw new MapFull();
}
