/**
 * Notices a store whose opening kills the process, and sets it aside.
 *
 * LMDB maps its file into memory: a truncated or overwritten one ends the process by a signal, which
 * no error handling sees. So each opening is written down before and struck out after; a store that
 * was begun twice in a row without an end is renamed, and a fresh one begins.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Openings in a row that did not come to their end. */
export const OPENINGS_MAX = 2;

/**
 * Begins an opening of the store in the folder `path`. Returns where a damaged store was moved to, or
 * null. Only the newest damaged store is kept, for a look at it.
 */
export function beginOpening(path: string): string | null {
  let asidePath: string | null = null;
  if (openingsOf(path) >= OPENINGS_MAX) {
    asidePath = `${path}.damaged`;
    rmSync(asidePath, { recursive: true, force: true });
    renameSync(path, asidePath);
  }
  mkdirSync(path, { recursive: true });
  writeFileSync(markerOf(path), String(openingsOf(path) + 1));
  return asidePath;
}

/** The store is open and read. */
export function endOpening(path: string): void {
  rmSync(markerOf(path), { force: true });
}

function openingsOf(path: string): number {
  const marker = markerOf(path);
  if (!existsSync(marker)) return 0;
  const openings = Number(readFileSync(marker, "utf8"));
  return Number.isInteger(openings) ? openings : OPENINGS_MAX;
}

function markerOf(path: string): string {
  return join(path, "opening");
}
