/**
 * Opens a store such that no damage of its file ends the process, or not twice more.
 *
 * LMDB maps its file into memory: reading behind the end of a truncated one ends the process by a signal,
 * which no error handling sees, and lmdb ends it likewise for a file with headers that are none. So the
 * headers are read first. A file shorter than they say is lengthened: what is missing reads as zeros, and
 * checksums tell. A file without them, or one whose trees LMDB finds broken, is moved aside, and a fresh
 * one begins. What kills the process all the same is found by a marker: each opening is written down
 * before and struck out when all is read.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { storeProblemOf } from "./store-problem.ts";

/** Openings in a row that did not come to their end. */
export const OPENINGS_MAX = 2;

/** Of LMDB's headers (lmdb 3.5), the first two pages: page size, and where they have what. */
const PAGE_BYTES = 4096;
const HEADER = { flags: 18, magic: 24, version: 28, pageBytes: 48, lastPage: 144 } as const;
const FLAGS = 8;
const MAGIC = 0xbeef_c0de;
const VERSION = 2;
/** A header that asks for a longer file is damaged. */
const FILE_BYTES_MAX = 4_398_046_511_104;

/**
 * Why a store is moved aside:
 * - killed: its openings did not come to their end
 * - foreign: it is no file of this LMDB's
 * - damaged: LMDB found its trees broken
 */
export type AsideReason = "killed" | "foreign" | "damaged";

export interface Aside {
  readonly path: string;
  readonly reason: AsideReason;
}

export interface GuardedStore<Store> {
  readonly store: Store;
  /** Where an unusable store was moved to. Only the newest is kept, for a look at it. */
  readonly aside: Aside | null;
  /** To be called once the store is read. */
  readonly end: () => void;
}

/** Opens the store in the folder `path`. Throws what `open` throws, unless the file is at fault. */
export function openGuarded<Store>(path: string, open: () => Store): GuardedStore<Store> {
  let aside: Aside | null = null;
  if (openingsOf(path) >= OPENINGS_MAX) aside = moveAside(path, "killed");
  else if (!isStoreFile(join(path, "data.mdb"))) aside = moveAside(path, "foreign");
  begin(path);
  const end = (): void => rmSync(markerOf(path), { force: true });
  try {
    return { store: open(), aside, end };
  } catch (error) {
    end();
    if (storeProblemOf(error) !== "damaged") throw error;
    aside = moveAside(path, "damaged");
  }
  begin(path);
  return { store: open(), aside, end };
}

function begin(path: string): void {
  mkdirSync(path, { recursive: true });
  writeFileSync(markerOf(path), String(openingsOf(path) + 1));
}

/** Renames the store in the folder `path`; a former one that was moved aside is deleted. */
export function moveAside(path: string, reason: AsideReason): Aside {
  const asidePath = `${path}.damaged`;
  rmSync(asidePath, { recursive: true, force: true });
  renameSync(path, asidePath);
  return { path: asidePath, reason };
}

/**
 * Whether LMDB may be given this file: none, an empty one, or one with two headers, which is made as long
 * as they say; of a sound file at most its free last pages are missing.
 */
function isStoreFile(path: string): boolean {
  if (!existsSync(path)) return true;
  const file = openSync(path, "r+");
  try {
    const { size } = fstatSync(file);
    if (size === 0) return true;
    const headers = new DataView(new ArrayBuffer(2 * PAGE_BYTES));
    readSync(file, headers);
    const bytes = [0, PAGE_BYTES].map((offset) => bytesSaid(headers, offset));
    if (bytes.includes(0)) return false;
    if (size < Math.max(...bytes)) ftruncateSync(file, Math.max(...bytes));
    return true;
  } finally {
    closeSync(file);
  }
}

/** Bytes of the file as the header at `offset` says; 0 of one that is none. */
function bytesSaid(headers: DataView, offset: number): number {
  const isHeader =
    headers.getUint16(offset + HEADER.flags, true) === FLAGS &&
    headers.getUint32(offset + HEADER.magic, true) === MAGIC &&
    headers.getUint32(offset + HEADER.version, true) === VERSION &&
    headers.getUint32(offset + HEADER.pageBytes, true) === PAGE_BYTES;
  if (!isHeader) return 0;
  const bytes = (Number(headers.getBigUint64(offset + HEADER.lastPage, true)) + 1) * PAGE_BYTES;
  return bytes <= FILE_BYTES_MAX ? bytes : 0;
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
