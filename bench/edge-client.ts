/**
 * A gateway as the ext_proc server sees it: Envoy's sequence of messages over HTTP/2, and a reset at
 * the end of each stream. Light, so that it is not what is measured.
 */
import http2 from "node:http2";
import { nodeClock } from "../src/core/node-clock.ts";
import type { ProcessingRequest } from "../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import { EXT_PROC_SERVICE, loadExtProcPackage } from "../src/extproc/grpc-definition.ts";

/** Envoy sends no larger body messages. */
const CHUNK_BYTES = 65_536;
const STREAM_WINDOW_BYTES = 1_048_576;
const CONNECTION_WINDOW_BYTES = 16_777_216;
const PREFIX_BYTES = 5;
/** Stands where each request has an id of its own, as Envoy gives one. */
const ID_PLACE = "00000000-0000-0000-0000-000000000000";

const { requestSerialize, responseDeserialize } = loadExtProcPackage().definition.Process;

/** Messages of one request, ready to be sent again and again. */
export interface EdgeRequest {
  readonly request: Buffer;
  /** Place of its id in it. */
  readonly idAt: number;
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
  const messages: ProcessingRequest[] = [
    {
      request_headers: { headers: { headers: fields } },
      protocol_config: {
        request_body_mode: "FULL_DUPLEX_STREAMED",
        response_body_mode: "FULL_DUPLEX_STREAMED",
      },
    },
  ];
  for (let at = 0; at < body.length; at += CHUNK_BYTES) {
    messages.push({ request_body: { body: body.subarray(at, at + CHUNK_BYTES) } });
  }
  messages.push({ request_body: { end_of_stream: true } });
  const responseHeaders = framed({
    response_headers: {
      headers: { headers: [header(":status", "200"), header("content-type", "application/json")] },
    },
  });
  const responseBody = framed({
    response_body: { body: Buffer.from('{"choices":[{"text":"a"}]}'), end_of_stream: true },
  });
  const request = Buffer.concat(messages.map(framed));
  const idAt = request.indexOf(ID_PLACE);
  return { request, idAt, responseHeaders: isAnswered ? responseHeaders : null, responseBody };
}

export class EdgeClient {
  readonly #sessions: readonly http2.ClientHttp2Session[];
  #turn = 0;

  constructor(address: string, connections = 1) {
    this.#sessions = Array.from({ length: connections }, () => connect(address));
  }

  /** Runs one request to its end; resolves with the time until the destination was told, ms. */
  exchange({ request, idAt, responseHeaders, responseBody }: EdgeRequest): Promise<number> {
    const startMs = nodeClock.nowMs();
    const bytes = Buffer.from(request);
    bytes.write(String(this.#turn).padStart(ID_PLACE.length, "0"), idAt);
    const stream = this.open(bytes);
    return new Promise((resolve, reject) => {
      let toldMs = 0;
      const end = (): void => {
        stream.close(http2.constants.NGHTTP2_CANCEL);
        resolve(toldMs);
      };
      readMessages(stream, (bytes) => {
        const message = responseDeserialize(bytes);
        if (message.request_headers !== undefined) toldMs = nodeClock.nowMs() - startMs;
        else if (message.request_body !== undefined) {
          const chunk = message.request_body.response?.body_mutation?.streamed_response;
          if (chunk?.end_of_stream !== true) return;
          if (responseHeaders === null) end();
          else stream.write(responseHeaders);
        } else if (message.response_headers !== undefined) stream.write(responseBody);
        else if (message.response_body !== undefined) end();
        else reject(new Error(`the router refused: ${JSON.stringify(message)}`));
      });
      stream.on("error", reject);
      stream.on("close", () => reject(new Error("the router ended the stream")));
    });
  }

  /** A stream on which `bytes` are sent. */
  open(bytes: Buffer): http2.ClientHttp2Stream {
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
    stream.write(bytes);
    return stream;
  }

  close(): void {
    for (const session of this.#sessions) session.destroy();
  }
}

function connect(address: string): http2.ClientHttp2Session {
  const session = http2.connect(`http://${address}`, {
    settings: { initialWindowSize: STREAM_WINDOW_BYTES },
  });
  session.once("connect", () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
  session.setMaxListeners(0);
  return session;
}

function readMessages(stream: http2.ClientHttp2Stream, onMessage: (bytes: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  stream.on("data", (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= PREFIX_BYTES) {
      const end = PREFIX_BYTES + rest.readUInt32BE(1);
      if (rest.length < end) return;
      const message = rest.subarray(PREFIX_BYTES, end);
      rest = rest.subarray(end);
      onMessage(message);
    }
  });
}

function framed(message: ProcessingRequest): Buffer {
  const bytes = requestSerialize(message);
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}
