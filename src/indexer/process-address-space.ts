/** Address space that is left to the process: where none is, LMDB cannot map a larger file. */
import { readFileSync } from "node:fs";

/** Bytes; Infinity where nothing limits it (`ulimit -v`), or the system does not tell. Cost: 50 us. */
export function addressSpaceLeft(): number {
  if (process.platform !== "linux") return Number.POSITIVE_INFINITY;
  const limits = readFileSync("/proc/self/limits", "latin1");
  const bytesMax = /^Max address space +(\d+) /m.exec(limits)?.[1];
  if (bytesMax === undefined) return Number.POSITIVE_INFINITY;
  const kib = /^VmSize:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
  return Number(bytesMax) - 1024 * Number(kib ?? 0);
}
