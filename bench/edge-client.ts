/**
 * A gateway as the ext_proc server sees it: Envoy's sequence of messages over HTTP/2, and a reset at
 * the end of each stream. Light, so that it is not what is measured: messages are made before, and of
 * the answers only so much is read as says what comes next.
 */
import http2 from "node:http2";
import { nodeClock } from "../src/core/node-clock.ts";
import type { ProcessingRequest } from "../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import { EXT_PROC_SERVICE, loadExtProcPackage } from "../src/extproc/grpc-definition.ts";
import { FrameReader, framed } from "../src/extproc/grpc-frames.ts";

/** Envoy sends no larger body messages. */
const CHUNK_BYTES = 65_536;
const STREAM_WINDOW_BYTES = 1_048_576;
const CONNECTION_WINDOW_BYTES = 16_777_216;
const ANSWER_LIMITS = { messageBytesMax: 1_048_576, budget: null };
/** Stands where each request has an id of its own, as Envoy gives one. */
const ID_PLACE = "00000000-0000-0000-0000-000000000000";
/** The same within a body that is to be another one each time it is sent: a chat's next turn. */
export const TURN_PLACE = "#0000000";
/** At Node's default of 10 MiB a client refuses its own streams while a busy machine lags behind. */
const SESSION_MEMORY_MIB_MAX = 1024;

const { requestSerialize } = loadExtProcPackage().definition.Process;

/** First byte of an answer: the field of ProcessingResponse that it is. */
const REQUEST_HEADERS = 0x0a;
const RESPONSE_HEADERS = 0x12;
const REQUEST_BODY = 0x1a;
const RESPONSE_BODY = 0x22;
/** The last bytes of a streamed body's last chunk, `end_of_stream: true`. */
const END_OF_STREAM = [0x10, 0x01] as const;

/** Messages of one request, ready to be sent again and again. */
export interface EdgeRequest {
  readonly headers: Buffer;
  /** Place of its id in `headers`. */
  readonly idAt: number;
  readonly body: readonly Buffer[];
  /** Which of them has the place of the turn, and where; null: none. */
  readonly turnAt: { readonly chunk: number; readonly at: number } | null;
  /** Of the answer; null: it is not shown. */
  readonly responseHeaders: Buffer | null;
  readonly responseBody: Buffer;
}

export function edgeRequest(path: string, body: Uint8Array, isAnswered: boolean): EdgeRequest {
  const header = (key: string, value: string): object => ({ key, raw_value: Buffer.from(value) });
  const fields = [
    ...[header(":method", "POST"), header(":path", path), header(":scheme", "http")],
    ...[header(":authority", "router"), header("content-type", "application/json")],
    ...[header("user-agent", "bench"), header("accept", "*/*")],
    header("x-request-id", ID_PLACE),
  ];
  const headers = messageBytes({
    request_headers: { headers: { headers: fields } },
    protocol_config: {
      request_body_mode: "FULL_DUPLEX_STREAMED",
      response_body_mode: "FULL_DUPLEX_STREAMED",
    },
  });
  const chunks: ProcessingRequest[] = [];
  for (let at = 0; at < body.length; at += CHUNK_BYTES) {
    chunks.push({ request_body: { body: body.subarray(at, at + CHUNK_BYTES) } });
  }
  chunks.push({ request_body: { end_of_stream: true } });
  const responseHeaders = messageBytes({
    response_headers: {
      headers: { headers: [header(":status", "200"), header("content-type", "application/json")] },
    },
  });
  const messages = chunks.map(messageBytes);
  const turned = messages.findIndex((bytes) => bytes.includes(TURN_PLACE));
  return {
    headers,
    idAt: headers.indexOf(ID_PLACE),
    body: messages,
    turnAt:
      turned === -1 ? null : { chunk: turned, at: messages[turned]?.indexOf(TURN_PLACE) ?? 0 },
    responseHeaders: isAnswered ? responseHeaders : null,
    responseBody: messageBytes({
      response_body: { body: Buffer.from('{"choices":[{"text":"a"}]}'), end_of_stream: true },
    }),
  };
}

export class EdgeClient {
  readonly #sessions: readonly http2.ClientHttp2Session[];
  #turn = 0;

  constructor(address: string, connections = 1) {
    this.#sessions = Array.from({ length: connections }, () => connect(address));
  }

  /** Runs one request to its end; resolves with the time until the destination was told, ms. */
  exchange({ headers, idAt, body, turnAt, ...response }: EdgeRequest): Promise<number> {
    const startMs = nodeClock.nowMs();
    const numbered = (bytes: Buffer, place: string, at: number): Buffer => {
      const copy = Buffer.from(bytes);
      copy.write(String(this.#turn).padStart(place.length, "0"), at);
      return copy;
    };
    const chunks = body.map((bytes, chunk) =>
      chunk === turnAt?.chunk ? numbered(bytes, TURN_PLACE, turnAt.at) : bytes,
    );
    const stream = this.open([numbered(headers, ID_PLACE, idAt), ...chunks]);
    return new Promise((resolve, reject) => {
      let toldMs = 0;
      const end = (): void => {
        stream.close(http2.constants.NGHTTP2_CANCEL);
        resolve(toldMs);
      };
      const reader = new FrameReader(ANSWER_LIMITS, (answer) => {
        const kind = answer[0];
        if (kind === REQUEST_HEADERS) toldMs = nodeClock.nowMs() - startMs;
        else if (kind === REQUEST_BODY) {
          if (!END_OF_STREAM.every((byte, at) => answer.at(at - END_OF_STREAM.length) === byte))
            return;
          if (response.responseHeaders === null) end();
          else stream.write(response.responseHeaders);
        } else if (kind === RESPONSE_HEADERS) stream.write(response.responseBody);
        else if (kind === RESPONSE_BODY) end();
        else reject(new Error("the router refused"));
      });
      stream.on("data", (chunk: Buffer) => reader.push(chunk));
      stream.on("error", reject);
      stream.on("close", () => reject(new Error("the router ended the stream")));
    });
  }

  /** A stream on which these messages are sent. */
  open(messages: readonly Buffer[]): http2.ClientHttp2Stream {
    this.#turn += 1;
    const session = this.#sessions[this.#turn % this.#sessions.length];
    if (session === undefined) throw new Error("no connection");
    const stream = session.request(
      {
        ":method": "POST",
        ":path": `/${EXT_PROC_SERVICE}/Process`,
        "content-type": "application/grpc",
        te: "trailers",
      },
      { endStream: false },
    );
    stream.cork();
    for (const message of messages) stream.write(message);
    stream.uncork();
    return stream;
  }

  close(): void {
    for (const session of this.#sessions) session.destroy();
  }
}

function connect(address: string): http2.ClientHttp2Session {
  const session = http2.connect(`http://${address}`, {
    settings: { initialWindowSize: STREAM_WINDOW_BYTES },
    maxSessionMemory: SESSION_MEMORY_MIB_MAX,
  });
  session.once("connect", () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
  session.setMaxListeners(0);
  return session;
}

function messageBytes(message: ProcessingRequest): Buffer {
  return framed(requestSerialize(message));
}
