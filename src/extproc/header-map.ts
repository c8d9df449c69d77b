/** Reads the header lists of ext_proc messages. */
import type { HeaderMap__Output } from "./gen/envoy/service/ext_proc/v3/HeaderMap.ts";
import type { HeaderValue__Output } from "./gen/envoy/service/ext_proc/v3/HeaderValue.ts";

/** Names the destination, in headers and in metadata. */
export const DESTINATION_KEY = "x-gateway-destination-endpoint";

/**
 * Names for a decode endpoint's sidecar the endpoint that prefills, as llm-d has it. The sidecar
 * connects to what it names: a client must not set it.
 */
export const PREFILLER_KEY = "x-prefiller-host-port";

/** Header names under which a client could try to steer routing; the suffixed ones included. */
const ROUTING_HEADER_PREFIXES = [DESTINATION_KEY, PREFILLER_KEY];

/** Request or response headers by lower-case name; pseudo headers apart. */
export interface Headers {
  /** ":method", ":path", ":status" and the like. */
  readonly pseudo: ReadonlyMap<string, string>;
  readonly fields: ReadonlyMap<string, string>;
  /** Length of all names and values, characters. */
  readonly length: number;
}

/** Repeated fields are joined with ", " as RFC 9110 section 5.2 allows. */
export function readHeaders(map: HeaderMap__Output | undefined): Headers {
  const pseudo = new Map<string, string>();
  const fields = new Map<string, string>();
  let length = 0;
  for (const header of map?.headers ?? []) {
    const name = common((header.key ?? "").toLowerCase());
    if (name === "") continue;
    const value = common(textOf(header));
    length += name.length + value.length;
    if (name.startsWith(":")) {
      pseudo.set(name, value);
      continue;
    }
    const earlier = fields.get(name);
    fields.set(name, earlier === undefined ? value : `${earlier}, ${value}`);
  }
  return { pseudo, fields, length };
}

export function withoutRoutingHeaders(
  fields: ReadonlyMap<string, string>,
): ReadonlyMap<string, string> {
  if (![...fields.keys()].some(isRoutingHeader)) return fields;
  return new Map([...fields].filter(([name]) => !isRoutingHeader(name)));
}

function isRoutingHeader(name: string): boolean {
  return ROUTING_HEADER_PREFIXES.some((prefix) => name.startsWith(prefix));
}

/** Texts of most requests, of which each would keep a copy of its own while it is open. */
const COMMON_TEXTS = new Map(
  [
    ...[":method", ":path", ":scheme", ":authority", "POST", "http", "https"],
    ...["content-type", "application/json", "content-length", "accept", "*/*", "accept-encoding"],
    ...["gzip, deflate", "gzip, deflate, br", "user-agent", "authorization", "x-request-id"],
    ...["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-envoy-internal"],
    ...[
      "x-envoy-external-address",
      "x-envoy-expected-rq-timeout-ms",
      "traceparent",
      "host",
      "true",
    ],
    ...["/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"],
  ].map((text) => [text, text]),
);

function common(text: string): string {
  return COMMON_TEXTS.get(text) ?? text;
}

/** Envoy fills `raw_value`, other gateways `value`. */
function textOf(header: HeaderValue__Output): string {
  const raw = header.raw_value;
  if (raw !== undefined && raw.length > 0) return raw.toString("utf8");
  return header.value ?? "";
}
