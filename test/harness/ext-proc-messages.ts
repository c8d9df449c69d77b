/** Messages of a gateway, and a session to feed them to. */

import { endpointId } from "../../src/core/ids.ts";
import { BodyBudget } from "../../src/extproc/body-budget.ts";
import type { ProcessingRequest__Output } from "../../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProcessingResponse } from "../../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import type { PickOutcome } from "../../src/extproc/picker.ts";
import { Session } from "../../src/extproc/session.ts";
import type { SessionOutput } from "../../src/extproc/session-io.ts";

const podA = endpointId("10.0.0.1:8000");
export const routeToA: PickOutcome = { kind: "route", endpointId: podA };
export const shed: PickOutcome = {
  kind: "refuse",
  status: 429,
  reason: "overloaded",
  message: "too many requests",
};

export type Mode = "FULL_DUPLEX_STREAMED" | "BUFFERED" | "STREAMED" | "NONE";

export function newSession(
  options: {
    bodyBytesMax?: number;
    bodyBudget?: BodyBudget;
    bodyMode?: "full-duplex" | "buffered";
    isFallbackNamed?: boolean;
    isTestSelectionOn?: boolean;
  } = {},
) {
  return new Session({
    bodyBytesMax: options.bodyBytesMax ?? 1_000_000,
    bodyBudget: options.bodyBudget ?? new BodyBudget(10_000_000),
    bodyModeDefault: options.bodyMode ?? "full-duplex",
    isFallbackNamed: options.isFallbackNamed ?? false,
    isTestSelectionOn: options.isTestSelectionOn ?? false,
    claimRequestId: (clientId) => ({
      requestId: clientId ?? "own-id",
      isOwn: clientId === undefined,
    }),
  });
}

export function headersMessage(
  headers: Record<string, string>,
  options: { isEnd?: boolean; request?: Mode; response?: Mode } = {},
): ProcessingRequest__Output {
  const entries = Object.entries({ ":method": "POST", ":path": "/v1/completions", ...headers });
  return {
    request: "request_headers",
    request_headers: {
      headers: { headers: entries.map(([key, value]) => ({ key, raw_value: Buffer.from(value) })) },
      ...(options.isEnd === true ? { end_of_stream: true } : {}),
    },
    ...(options.request === undefined
      ? {}
      : {
          protocol_config: {
            request_body_mode: options.request,
            response_body_mode: options.response ?? options.request,
          },
        }),
  };
}

export function bodyMessage(body: Buffer | undefined, isEnd: boolean): ProcessingRequest__Output {
  return {
    request: "request_body",
    request_body: {
      ...(body === undefined ? {} : { body }),
      ...(isEnd ? { end_of_stream: true } : {}),
    },
  };
}

export const requestTrailers: ProcessingRequest__Output = {
  request: "request_trailers",
  request_trailers: {},
};

export function responseHeaders(
  options: { served?: string; isEnd?: boolean; status?: number; encoding?: string } = {},
) {
  const { status = 200, encoding } = options;
  const message: ProcessingRequest__Output = {
    request: "response_headers",
    response_headers: {
      headers: {
        headers: [
          { key: ":status", raw_value: Buffer.from(String(status)) },
          ...(encoding === undefined
            ? []
            : [{ key: "content-encoding", raw_value: Buffer.from(encoding) }]),
        ],
      },
      ...(options.isEnd === true ? { end_of_stream: true } : {}),
    },
  };
  if (options.served !== undefined) {
    message.metadata_context = {
      filter_metadata: {
        "envoy.lb": {
          fields: { "x-gateway-destination-endpoint-served": { stringValue: options.served } },
        },
      },
    };
  }
  return message;
}

export function responseBody(text: string, isEnd: boolean): ProcessingRequest__Output {
  return {
    request: "response_body",
    response_body: { body: Buffer.from(text), ...(isEnd ? { end_of_stream: true } : {}) },
  };
}

export const responseTrailers: ProcessingRequest__Output = {
  request: "response_trailers",
  response_trailers: {},
};

export function feed(session: Session, ...messages: ProcessingRequest__Output[]): SessionOutput[] {
  return messages.flatMap((message) => session.receive({ kind: "message", message }));
}

export function picked(session: Session, outcome: PickOutcome, by: "pick" | "load" = "pick") {
  return session.receive({ kind: "picked", by, outcome });
}

/** A duplex session that has routed a small request. */
export function routedSession(session: Session = newSession()): Session {
  feed(session, headersMessage({}, { request: "FULL_DUPLEX_STREAMED" }));
  feed(session, bodyMessage(Buffer.from("{}"), true));
  picked(session, routeToA);
  return session;
}

export const kinds = (outputs: readonly SessionOutput[]): string[] =>
  outputs.map((each) => each.kind);

export function sent(outputs: readonly SessionOutput[]): ProcessingResponse[] {
  return outputs.flatMap((each) => (each.kind === "send" ? [each.response] : []));
}

export function pickOf(outputs: readonly SessionOutput[]) {
  const pick = outputs.find((each) => each.kind === "pick");
  if (pick?.kind !== "pick") throw new Error(`no pick in ${kinds(outputs).join(", ")}`);
  return pick.request;
}

export const destinationHeader = {
  header: { key: "x-gateway-destination-endpoint", raw_value: Buffer.from(podA) },
  append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
};
export const destinationMetadata = {
  fields: {
    "envoy.lb": {
      structValue: { fields: { "x-gateway-destination-endpoint": { stringValue: podA } } },
    },
  },
};
