/** Reads kvatlas.yaml once into a frozen value; modules are handed their own part of it. */
import { readFileSync, statSync } from "node:fs";
import path from "node:path";
import { KvError, messageOf } from "../core/errors.ts";
import type { TlsConfig } from "../extproc/config.ts";
import { problemLine } from "./problems.ts";
import { readYaml } from "./read-yaml.ts";
import { type Config, configSchema } from "./schema.ts";

/** Bytes of a kvatlas.yaml, which holds no lists of endpoints. */
export const CONFIG_BYTES_MAX = 262_144;

/**
 * Throws KvError: ERR_CONFIG_UNREADABLE, or ERR_CONFIG_INVALID with one line for each problem.
 * Paths in the result are absolute; in the file they are relative to its folder. The result is
 * frozen in depth.
 */
export function loadConfig(file: string): Config {
  const read = readYaml({ file, text: textOf(file), bytesMax: CONFIG_BYTES_MAX }, configSchema);
  if (!read.ok) {
    throw new KvError("ERR_CONFIG_INVALID", read.problems.map(problemLine).join("\n"));
  }
  const folder = path.dirname(path.resolve(file));
  const { extProc, fleet, index, prompt } = read.value;
  const resolved = (at: string | null): string | null =>
    at === null ? null : path.resolve(folder, at);
  return deepFrozen({
    ...read.value,
    fleet: { ...fleet, endpointsFile: path.resolve(folder, fleet.endpointsFile) },
    index: { ...index, path: resolved(index.path) },
    extProc: { ...extProc, tls: extProc.tls === null ? null : resolvedTls(extProc.tls, folder) },
    prompt: { ...prompt, tokenizerPath: resolved(prompt.tokenizerPath) },
  });
}

function resolvedTls({ certFile, keyFile, clientCaFile }: TlsConfig, folder: string): TlsConfig {
  return {
    certFile: path.resolve(folder, certFile),
    keyFile: path.resolve(folder, keyFile),
    clientCaFile: clientCaFile === null ? null : path.resolve(folder, clientCaFile),
  };
}

function textOf(file: string): string {
  try {
    const { size } = statSync(file);
    // Not read at all: the text alone could exhaust the memory.
    if (size > CONFIG_BYTES_MAX) {
      const message = `${file}: got ${size} bytes, expected at most ${CONFIG_BYTES_MAX} bytes`;
      throw new KvError("ERR_CONFIG_INVALID", message);
    }
    return readFileSync(file, "utf8");
  } catch (cause) {
    if (cause instanceof KvError) throw cause;
    throw new KvError("ERR_CONFIG_UNREADABLE", `${file}: ${messageOf(cause)}`, { cause });
  }
}

function deepFrozen<Value extends object>(value: Value): Value {
  for (const part of Object.values(value)) {
    if (typeof part === "object" && part !== null) deepFrozen(part);
  }
  return Object.freeze(value);
}
