/** Reads the endpoints file that a configuration names, once, as `config check` needs it. */
import { readFileSync, statSync } from "node:fs";
import { KvError, messageOf } from "../core/errors.ts";
import type { EndpointSpec } from "../fleet/endpoint.ts";
import { ENDPOINTS_BYTES_MAX } from "../fleet/endpoints-file.ts";
import { endpointDefaults, parseEndpoints } from "./endpoints.ts";
import type { Config } from "./schema.ts";

/** Throws KvError with one line for each problem. */
export function loadEndpoints(config: Config): readonly EndpointSpec[] {
  const file = config.fleet.endpointsFile;
  let text: string;
  try {
    const stat = statSync(file);
    if (stat.size > ENDPOINTS_BYTES_MAX || !stat.isFile()) {
      const message = `${file}: expected a file of at most ${ENDPOINTS_BYTES_MAX} bytes`;
      throw new KvError("ERR_CONFIG_INVALID", message);
    }
    text = readFileSync(file, "utf8");
  } catch (cause) {
    if (cause instanceof KvError) throw cause;
    throw new KvError("ERR_CONFIG_UNREADABLE", `${file}: ${messageOf(cause)}`, { cause });
  }
  const parsed = parseEndpoints({ file, text }, endpointDefaults(config));
  if (!parsed.ok) throw new KvError("ERR_CONFIG_INVALID", parsed.problems.join("\n"));
  return parsed.specs;
}
