/** Builds the messages that answer a gateway. */
import type { EndpointId } from "../core/ids.ts";
import type { CommonResponse } from "./gen/envoy/service/ext_proc/v3/CommonResponse.ts";
import type { HeaderValueOption } from "./gen/envoy/service/ext_proc/v3/HeaderValueOption.ts";
import type { ProcessingResponse } from "./gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import type { Struct } from "./gen/google/protobuf/Struct.ts";
import { DESTINATION_KEY, PREFILLER_KEY } from "./header-map.ts";
import { LB_NAMESPACE } from "./metadata-hints.ts";
import type { Refusal, RefusalStatus } from "./picker.ts";

/** Largest body chunk in a response; gateways accept 64 KiB with everything around it. */
export const CHUNK_BYTES_MAX = 62_000;

/** Tells a client why it was refused here, and that it was here. */
const REFUSED_HEADER = "x-kvatlas-refused";

export interface Route {
  readonly endpointId: EndpointId;
  /** Named behind it, for a retry; null: none is. */
  readonly fallbackId: EndpointId | null;
  /** Named for the destination's sidecar; null: the destination prefills. */
  readonly prefillId: EndpointId | null;
  /** The client sent that name itself: it is taken out. */
  readonly isPrefillClaimed: boolean;
  /** Set as x-request-id for the endpoint; null when the request already carries one. */
  readonly requestId: string | null;
}

/** The header mutation, for a HeadersResponse or the BodyResponse of a buffered body. */
export function routeMutation(route: Route): CommonResponse {
  const headers = [header(DESTINATION_KEY, destinationOf(route))];
  if (route.requestId !== null) headers.push(header("x-request-id", route.requestId));
  if (route.prefillId !== null) headers.push(header(PREFILLER_KEY, route.prefillId));
  const removed =
    route.isPrefillClaimed && route.prefillId === null ? { remove_headers: [PREFILLER_KEY] } : {};
  return { header_mutation: { set_headers: headers, ...removed }, clear_route_cache: true };
}

/**
 * The same, with another body in the place of a buffered one: Envoy refuses one whose length is not
 * that of the header.
 */
export function bodyReplacement(mutation: CommonResponse, body: Uint8Array): CommonResponse {
  const { set_headers: set = [], ...rest } = mutation.header_mutation ?? {};
  const length = header("content-length", String(body.length));
  return {
    ...mutation,
    header_mutation: { ...rest, set_headers: [...set, length] },
    body_mutation: { body },
  };
}

/** The same destination for gateways that route by metadata: they ignore the header. */
export function routeMetadata(route: Route): Struct {
  const namespace: Struct = {
    fields: { [DESTINATION_KEY]: { stringValue: destinationOf(route) } },
  };
  return { fields: { [LB_NAMESPACE]: { structValue: namespace } } };
}

function destinationOf({ endpointId, fallbackId }: Route): string {
  return fallbackId === null ? endpointId : `${endpointId},${fallbackId}`;
}

/**
 * The body in streamed chunks, without copying it. The last chunk carries `isEnd`; an empty body
 * gives one empty chunk where `isEnd` must be said, otherwise none.
 */
export function streamedChunks(body: Uint8Array, isEnd: boolean): CommonResponse[] {
  const chunks: CommonResponse[] = [];
  for (let start = 0; start < body.length; start += CHUNK_BYTES_MAX) {
    const end = Math.min(start + CHUNK_BYTES_MAX, body.length);
    chunks.push(streamedChunk(body.subarray(start, end), isEnd && end === body.length));
  }
  if (chunks.length === 0 && isEnd) chunks.push(streamedChunk(body, true));
  return chunks;
}

/** An answer in the error form of the OpenAI API, sent by the gateway in the endpoint's stead. */
export function immediateResponse(refusal: Refusal): ProcessingResponse {
  const { status, reason, message } = refusal;
  const error = { message, type: ERROR_TYPES[status], param: null, code: reason };
  return {
    immediate_response: {
      status: { code: status },
      headers: {
        set_headers: [header("content-type", "application/json"), header(REFUSED_HEADER, reason)],
      },
      body: Buffer.from(JSON.stringify({ error })),
      details: `kvatlas_${reason.replaceAll("-", "_")}`,
    },
  };
}

const ERROR_TYPES: Readonly<Record<RefusalStatus, string>> = {
  400: "invalid_request_error",
  413: "invalid_request_error",
  429: "rate_limit_error",
  503: "service_unavailable_error",
};

function streamedChunk(body: Uint8Array, isEnd: boolean): CommonResponse {
  return { body_mutation: { streamed_response: { body, end_of_stream: isEnd } } };
}

/** `raw_value`, because Envoy takes a header given as `value` for empty. */
function header(key: string, value: string): HeaderValueOption {
  return {
    header: { key, raw_value: Buffer.from(value) },
    append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
  };
}
