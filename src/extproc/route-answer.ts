/** The messages that give a gateway the destination of its request, in the order of its mode. Pure. */

import type { ProcessingResponse } from "./gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import type { ProtocolConfiguration__Output } from "./gen/envoy/service/ext_proc/v3/ProtocolConfiguration.ts";
import {
  bodyReplacement,
  type Route,
  routeMetadata,
  routeMutation,
  streamedChunks,
} from "./responses.ts";

export type RequestMode = "duplex" | "buffered" | "headers-only";

export function requestModeOf(config: ProtocolConfiguration__Output): RequestMode {
  switch (config.request_body_mode) {
    case "FULL_DUPLEX_STREAMED":
      return "duplex";
    case "BUFFERED":
    case "BUFFERED_PARTIAL":
      return "buffered";
    default:
      return "headers-only";
  }
}

export interface RoutedRequest {
  readonly mode: RequestMode;
  /** The message that the destination answers. */
  readonly answers: "headers" | "body" | "trailers";
  readonly hasBody: boolean;
  readonly hasTrailers: boolean;
  /** Body messages that came before the destination and want an acknowledgement after it. */
  readonly bodiesOwed: number;
  /** What goes on to the endpoint. */
  readonly body: Uint8Array;
  /** Whether it is another one than came. */
  readonly isBodyChanged: boolean;
}

export function routeAnswer(request: RoutedRequest, route: Route): ProcessingResponse[] {
  const { mode, answers, hasBody, hasTrailers, bodiesOwed, body } = request;
  const mutation = routeMutation(route);
  const metadata = { dynamic_metadata: routeMetadata(route) };
  const responses: ProcessingResponse[] = [];
  if (mode === "duplex") {
    responses.push({ request_headers: { response: mutation }, ...metadata });
    const chunks = hasBody ? streamedChunks(body, !hasTrailers) : [];
    responses.push(...chunks.map((response) => ({ request_body: { response } })));
  } else if (answers === "headers") {
    responses.push({ request_headers: { response: mutation }, ...metadata });
  } else if (answers === "body") {
    const response = request.isBodyChanged ? bodyReplacement(mutation, body) : mutation;
    responses.push({ request_body: { response }, ...metadata });
  } else {
    // Trailers alone after buffered headers: the header can no longer be set.
    return [{ request_trailers: {}, ...metadata }];
  }
  for (let owed = bodiesOwed; owed > 0; owed -= 1) responses.push({ request_body: {} });
  if (hasTrailers) responses.push({ request_trailers: {} });
  return responses;
}
