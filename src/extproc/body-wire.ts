/**
 * Body messages as bytes, read and written here without protobuf's objects between: they are most
 * messages and nearly all bytes of a stream. A message that is not in the plain form is left to the
 * general codec, so the result is its result in every case. Pure.
 */
import type { HttpBody__Output } from "./gen/envoy/service/ext_proc/v3/HttpBody.ts";
import type { ProcessingRequest__Output } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProcessingResponse } from "./gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";

/** Tags of external_processor.proto: the field's number, and that its length follows. */
const REQUEST_BODY = 0x22;
const RESPONSE_BODY = 0x2a;
const BODY = 0x0a;
const ANSWERED_REQUEST_BODY = 0x1a;
const ANSWERED_RESPONSE_BODY = 0x22;
const RESPONSE = 0x0a;
const BODY_MUTATION = 0x1a;
const STREAMED_RESPONSE = 0x1a;
const END_OF_STREAM = Buffer.from([0x10, 0x01]);
const EMPTY = Buffer.alloc(0);
/** An empty message in the field of each kind. */
const PLAIN_ANSWERS: ReadonlyMap<string, Uint8Array> = new Map(
  [
    ...["request_headers", "response_headers", "request_body", "response_body"],
    ...["request_trailers", "response_trailers"],
  ].map((kind, at) => [kind, Uint8Array.of(((at + 1) << 3) | 2, 0)]),
);
/** Five lengths with their tags. */
const HEAD_BYTES_MAX = 5 * 6;

/** Null: not a body message, or not in the plain form. The body is a view. */
export function readBodyMessage(bytes: Buffer): ProcessingRequest__Output | null {
  const kind = bytes[0];
  if (kind !== REQUEST_BODY && kind !== RESPONSE_BODY) return null;
  const body = readHttpBody(bytes);
  if (body === null) return null;
  return kind === REQUEST_BODY
    ? { request: "request_body", request_body: body }
    : { request: "response_body", response_body: body };
}

/** The body, if there is one, then the end of stream, if it is true, and nothing behind. */
function readHttpBody(bytes: Buffer): HttpBody__Output | null {
  let at = 1;
  const readLength = (): number => {
    let length = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = bytes[at] ?? 0x80;
      at += 1;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) return length;
    }
    return Number.POSITIVE_INFINITY;
  };
  if (readLength() !== bytes.length - at) return null;
  let body: Buffer | undefined;
  if (bytes[at] === BODY) {
    at += 1;
    const length = readLength();
    if (at + length > bytes.length) return null;
    body = bytes.subarray(at, at + length);
    at += length;
  }
  const isEnd = END_OF_STREAM.equals(bytes.subarray(at, at + END_OF_STREAM.length));
  if (isEnd) at += END_OF_STREAM.length;
  if (at !== bytes.length) return null;
  return { ...(body === undefined ? {} : { body }), ...(isEnd ? { end_of_stream: true } : {}) };
}

/** An answer that changes nothing, as bytes; null: it says more than which message it answers. */
export function plainAnswer(response: ProcessingResponse): Uint8Array | null {
  const [kind, ...more] = Object.keys(response);
  if (kind === undefined || more.length > 0) return null;
  const bytes = PLAIN_ANSWERS.get(kind);
  const answer = response[kind as keyof ProcessingResponse];
  const isPlain = typeof answer === "object" && answer !== null && isEmpty(answer);
  return isPlain ? (bytes ?? null) : null;
}

function isEmpty(message: object): boolean {
  for (const _ in message) return false;
  return true;
}

/** The message in parts, its body uncopied; null: it is not a streamed body alone. */
export function streamedBodyParts(response: ProcessingResponse): readonly Uint8Array[] | null {
  const { request_body, response_body, dynamic_metadata } = response;
  const answered = request_body ?? response_body;
  const common = answered?.response;
  const chunk = common?.body_mutation?.streamed_response;
  const isAlone = !dynamic_metadata && !common?.header_mutation && !common?.clear_route_cache;
  if (!chunk || !isAlone || (request_body && response_body)) return null;
  const body = chunk.body ?? EMPTY;
  if (!(body instanceof Uint8Array)) return null;
  const end = chunk.end_of_stream === true ? END_OF_STREAM : EMPTY;
  return [
    headOf(request_body ? ANSWERED_REQUEST_BODY : ANSWERED_RESPONSE_BODY, body, end),
    body,
    end,
  ];
}

/** What stands before the body: tags and lengths from the inside out, written backwards. */
function headOf(kind: number, body: Uint8Array, end: Uint8Array): Buffer {
  const head = Buffer.allocUnsafe(HEAD_BYTES_MAX);
  let at = HEAD_BYTES_MAX;
  const prepend = (tag: number, length: number): void => {
    const bytes = length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x20_0000 ? 3 : 4;
    at -= bytes;
    let rest = length;
    for (let i = 0; i < bytes; i += 1) {
      head[at + i] = (rest & 0x7f) | (i < bytes - 1 ? 0x80 : 0);
      rest >>>= 7;
    }
    at -= 1;
    head[at] = tag;
  };
  if (body.length > 0) prepend(BODY, body.length);
  const bytes = (): number => HEAD_BYTES_MAX - at + body.length + end.length;
  for (const tag of [STREAMED_RESPONSE, BODY_MUTATION, RESPONSE, kind]) prepend(tag, bytes());
  return head.subarray(at);
}
