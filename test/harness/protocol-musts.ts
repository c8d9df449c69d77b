/** What the endpoint-picker protocol (Gateway API Inference Extension, 1.0.0) demands, and what shows it. */

export interface Must {
  readonly demand: string;
  /** Test file -> title of the test, or the part of it that its table does not fill in. */
  readonly shownBy: readonly (readonly [file: string, title: string])[];
}

const SESSION = "src/extproc/session.test.ts";
const SUBSET = "src/extproc/session-subset.test.ts";
const RESPONSE = "src/extproc/session-response.test.ts";
const SERVER = "src/extproc/grpc-ext-proc.test.ts";
const ENVOY = "test/integration/ext-proc-envoy.test.ts";
const GATEWAYS = "test/integration/gateways.test.ts";

/** Demands on the endpoint picker. */
export const PROTOCOL_MUSTS: readonly Must[] = [
  {
    demand: "The picker MUST implement Envoy's external processing service.",
    shownBy: [
      [ENVOY, "lands GET, POST and chunked requests on endpoint"],
      [ENVOY, "lands HTTP/2 requests on the picked endpoint, with trailers"],
    ],
  },
  {
    demand:
      "It MUST support streaming mode for requests and responses, so that an answer is delivered token by " +
      "token.",
    shownBy: [
      [ENVOY, "passes 8 MB byte-exact both ways"],
      [ENVOY, "streams server-sent events as they come and observes usage and endpoint"],
      [SESSION, "reassembles to the same bytes for any chunking"],
    ],
  },
  {
    demand:
      "With the key `x-gateway-destination-endpoint-subset` set, it MUST select from the list only.",
    shownBy: [
      [ENVOY, "honours the gateway's subset hint, with and without port"],
      [SUBSET, "is read from a list"],
      [SUBSET, "is read from a comma-separated string"],
      ["src/router/decide.test.ts", "chooses a ready endpoint of the subset"],
    ],
  },
  {
    demand:
      "With an empty list, or none of it eligible, it MUST return an ImmediateResponse with 503.",
    shownBy: [
      [SUBSET, "refuses with 503 when it is"],
      [ENVOY, "honours the gateway's subset hint, with and without port"],
      [GATEWAYS, "answers 503 when the subset names no endpoint of the pool"],
    ],
  },
  {
    demand: "Without the key, it MUST select from the pool.",
    shownBy: [[GATEWAYS, "sends a prompt to the endpoint that holds it, through"]],
  },
  {
    demand:
      "It MUST set the header `x-gateway-destination-endpoint` and the same key of the metadata " +
      "namespace `envoy.lb`, and MUST NOT set two different values.",
    shownBy: [
      [SESSION, "answers with header, metadata and cleared route cache, then the body"],
      [SESSION, "answers the headers at once and routes with the body's answer"],
    ],
  },
  {
    demand: "The value MUST contain at least one endpoint as `ip:port`.",
    shownBy: [
      [SESSION, "answers with header, metadata and cleared route cache, then the body"],
      ["src/router/decide.test.ts", "chooses a ready endpoint of the subset"],
    ],
  },
  {
    demand: "Several endpoints are separated by commas, the first choice first.",
    shownBy: [[SESSION, "is named behind the destination in header and metadata where that is"]],
  },
  {
    demand: "Without a ready endpoint it MUST return an ImmediateResponse with 503.",
    shownBy: [
      ["test/e2e/edge.test.ts", "answers 503 when no endpoint is ready"],
      [SERVER, "refuses with 503 when even the choice by load throws"],
    ],
  },
  {
    demand: "For a request to be dropped it MUST return an ImmediateResponse with 429.",
    shownBy: [
      ["test/e2e/holding.test.ts", "answers the named objectives with 429 meanwhile"],
      [RESPONSE, "is an immediate response in OpenAI's error form, and ends the stream"],
      [ENVOY, "passes refusals with status, reason and OpenAI's error form"],
    ],
  },
  {
    demand:
      "The gateway MUST tell which endpoint served (`x-gateway-destination-endpoint-served`): it " +
      "is taken, and the request is booked there.",
    shownBy: [
      [ENVOY, "streams server-sent events as they come and observes usage and endpoint"],
      ["src/fleet/ledger.test.ts", "counts a request that was served elsewhere there"],
    ],
  },
  {
    demand:
      "It MUST expose gRPC health: `liveness`, and as one `readiness` and " +
      "`envoy.service.ext_proc.v3.ExternalProcessor`, which a drain ends.",
    shownBy: [
      [SERVER, "serves both addresses; draining ends readiness and leaves liveness"],
      [ENVOY, "drains: NOT_SERVING to gateways, and an answer in flight passes to its end"],
    ],
  },
];

/** What gateways rely on beyond the protocol's text. */
export const PRACTICE_MUSTS: readonly Must[] = [
  {
    demand: "Full duplex: the headers' answer is held until the body has come.",
    shownBy: [[SESSION, "holds the headers' answer until the end of the body"]],
  },
  {
    demand: "Full duplex: the body is sent back unchanged, in pieces of at most 62,000 bytes.",
    shownBy: [
      [SESSION, "reassembles to the same bytes for any chunking"],
      [ENVOY, "passes 8 MB byte-exact both ways"],
    ],
  },
  {
    demand: "Buffered: the headers are answered at once, the destination comes with the body.",
    shownBy: [[SESSION, "answers the headers at once and routes with the body's answer"]],
  },
  {
    demand: "An empty last body message, and a second end of stream, are taken.",
    shownBy: [
      [SESSION, "accepts an empty last body message without a body field"],
      [SESSION, "ignores a second, empty end of stream and counts late bytes"],
    ],
  },
  {
    demand: "A stream whose client half-closes is answered and ended.",
    shownBy: [[SERVER, "ends the stream when a peer half-closes after its request"]],
  },
  {
    demand: "Headers are read from `value` where `raw_value` is missing, and set in `raw_value`.",
    shownBy: [[SESSION, "accepts text in `value` where `raw_value` is missing"]],
  },
  {
    demand:
      "`test-epp-endpoint-selection` of the conformance tests is obeyed, where it is switched on.",
    shownBy: [
      [GATEWAYS, "steers where extProc.isTestSelectionOn is"],
      [SUBSET, "restricts the endpoints, within the gateway's subset hint"],
      [SUBSET, "has no effect unless it is switched on"],
    ],
  },
  {
    demand:
      "`x-llm-d-model-name-rewrite`, formerly `x-gateway-model-name-rewrite`, puts its name in the place " +
      "of the body's, in every mode.",
    shownBy: [
      ["src/prompt/model-rewrite.test.ts", "changes the name and no other byte"],
      ["test/e2e/edge.test.ts", "gives the engine another model name where that is asked for"],
      [ENVOY, "sends another body on where the picker asks for it, by"],
    ],
  },
  {
    demand: "Routing headers of a client have no effect.",
    shownBy: [
      [SESSION, "hides routing headers of the client from the picker"],
      [ENVOY, "gives a destination header of the client no effect"],
    ],
  },
  {
    demand: "Every stream is answered in time, whatever fails in the decision.",
    shownBy: [
      [SERVER, "answers by load when a decision never comes"],
      [ENVOY, "routes by load when the picker does"],
    ],
  },
  {
    demand: "Envoy's resets of every stream cost no connection.",
    shownBy: [[ENVOY, "answers 20,000 requests at 64 connections without an error"]],
  },
];
