/** Reads a trace from its file. */
import { readFile, stat } from "node:fs/promises";
import { KvError, messageOf } from "../../core/errors.ts";
import { parseTrace, type TraceRequest } from "./mooncake-trace.ts";

const TRACE_BYTES_MAX = 256 * 1024 * 1024;

/** Throws KvError ERR_TRACE_INVALID. */
export async function readTrace(path: string): Promise<TraceRequest[]> {
  const text = await readBounded(path).catch((cause: unknown) => {
    const message = `${path}: cannot be read: ${messageOf(cause)}`;
    throw new KvError("ERR_TRACE_INVALID", message, { cause });
  });
  return parseTrace(text, path);
}

async function readBounded(path: string): Promise<string> {
  const { size } = await stat(path);
  if (size > TRACE_BYTES_MAX) throw new Error(`${size} bytes, limit ${TRACE_BYTES_MAX}`);
  return await readFile(path, "utf8");
}
