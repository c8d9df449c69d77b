/** Text of an endpoints file -> endpoint specs, or its problems one a line. Pure. */
import {
  ENDPOINTS_BYTES_MAX,
  type EndpointDefaults,
  endpointSpecs,
  endpointsFileSchema,
} from "../fleet/endpoints-file.ts";
import type { EndpointsParse } from "../fleet/file-endpoints.ts";
import { problemLine } from "./problems.ts";
import { readYaml } from "./read-yaml.ts";

export function parseEndpoints(
  source: { readonly file: string; readonly text: string },
  defaults: EndpointDefaults,
): EndpointsParse {
  const read = readYaml({ ...source, bytesMax: ENDPOINTS_BYTES_MAX }, endpointsFileSchema);
  if (!read.ok) return { ok: false, problems: read.problems.map(problemLine) };
  return { ok: true, specs: endpointSpecs(read.value, defaults) };
}
