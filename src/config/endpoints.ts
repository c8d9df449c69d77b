/** Text of an endpoints file -> endpoint specs, or its problems one a line. Pure. */
import {
  ENDPOINTS_BYTES_MAX,
  type EndpointDefaults,
  endpointSpecs,
  endpointsFileSchemaWith,
} from "../fleet/endpoints-file.ts";
import type { EndpointsParse } from "../fleet/file-endpoints.ts";
import { problemLine } from "./problems.ts";
import { readYaml } from "./read-yaml.ts";
import type { Config } from "./schema.ts";

/** What the configuration says of endpoints that do not say it themselves. */
export function endpointDefaults({
  pool,
  model,
  router,
  prompt,
}: Pick<Config, "pool" | "model" | "router" | "prompt">): EndpointDefaults {
  const accelerators = new Map(
    Object.entries(router.accelerators).map(([name, stated]) => {
      const speed = stated.prefillTokensPerSecond / router.prefillTokensPerSecond;
      return [name, { speed, dollarsPerHour: stated.dollarsPerHour }];
    }),
  );
  const promptEngine = prompt.tokenize === "off" ? null : prompt.engine;
  return { pool, model, accelerators, promptEngine };
}

export function parseEndpoints(
  source: { readonly file: string; readonly text: string },
  defaults: EndpointDefaults,
): EndpointsParse {
  const schema = endpointsFileSchemaWith(defaults);
  const read = readYaml({ ...source, bytesMax: ENDPOINTS_BYTES_MAX }, schema);
  if (!read.ok) return { ok: false, problems: read.problems.map(problemLine) };
  return { ok: true, specs: endpointSpecs(read.value, defaults) };
}
