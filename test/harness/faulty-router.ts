/** A router that fails on purpose: an ext_proc service on bare HTTP/2, healthy by its health checks. */
import http2 from "node:http2";
import type { ProcessingResponse } from "../../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import { loadExtProcPackage } from "../../src/extproc/grpc-definition.ts";

export type RouterFault =
  /** Resets the stream at the first piece of the body, or at the headers of a request without. */
  | "reset"
  /** Answers the whole request with bytes that are no message. */
  | "garbage"
  /** Answers the whole request as if it were a response. */
  | "out-of-order"
  /** Never answers the whole request. */
  | "silent";

export interface FaultyRouter {
  readonly address: string;
  close(): Promise<void>;
}

const EXT_PROC_PATH = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
const FRAME_HEADER_BYTES = 5;
/** HealthCheckResponse { status: SERVING }. */
const SERVING = Buffer.from([0x08, 0x01]);
/** A field of a length that is not there. */
const NO_MESSAGE = Buffer.from([0x0a, 0xff, 0xff, 0xff, 0x7f, 0x01]);

export async function startFaultyRouter(fault: RouterFault): Promise<FaultyRouter> {
  const { Process } = loadExtProcPackage().definition;
  const sessions = new Set<http2.ServerHttp2Session>();
  const server = http2.createServer();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
    session.on("error", () => {});
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    stream.respond(
      { ":status": 200, "content-type": "application/grpc" },
      { waitForTrailers: true },
    );
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    if (headers[":path"] !== EXT_PROC_PATH) {
      stream.resume().end(frame(SERVING));
      return;
    }
    const reply = (response: ProcessingResponse): void => {
      stream.write(frame(Process.responseSerialize(response)));
    };
    let isBuffered = false;
    readFrames(stream, (bytes) => {
      const message = Process.requestDeserialize(bytes);
      if (message.protocol_config !== undefined) {
        isBuffered = message.protocol_config?.request_body_mode === "BUFFERED";
      }
      const isBody = message.request === "request_body";
      const isWhole = (message.request_headers ?? message.request_body)?.end_of_stream === true;
      if (isBuffered && !isWhole) reply({ request_headers: {} });
      if (fault === "reset" && (isBody || isWhole)) {
        stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
      }
      if (fault === "garbage" && isWhole) stream.write(frame(NO_MESSAGE));
      if (fault === "out-of-order" && isWhole) reply({ response_headers: {} });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const bound = server.address();
  return {
    address: `127.0.0.1:${typeof bound === "object" && bound !== null ? bound.port : 0}`,
    close: () => {
      for (const session of sessions) session.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

function frame(message: Buffer): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt32BE(message.length, 1);
  return Buffer.concat([header, message]);
}

function readFrames(stream: http2.ServerHttp2Stream, onMessage: (bytes: Buffer) => void): void {
  let pending = Buffer.alloc(0);
  stream.on("data", (piece: Buffer) => {
    pending = Buffer.concat([pending, piece]);
    while (pending.length >= FRAME_HEADER_BYTES) {
      const end = FRAME_HEADER_BYTES + pending.readUInt32BE(1);
      if (pending.length < end) return;
      onMessage(pending.subarray(FRAME_HEADER_BYTES, end));
      pending = pending.subarray(end);
    }
  });
}
