/**
 * Serves gRPC on node:http2: connections and their limits, TLS, and which call is for whom.
 *
 * Envoy resets every ext_proc stream when its HTTP request is over. Node takes resets beyond 33 a
 * second on a connection for an attack and closes the connection, which fails the requests under
 * way; hence the raised limits. The peers are gateways of the same operator, and streams are bounded
 * without them.
 */
import http2, {
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Clock } from "../core/clock.ts";
import type { TlsMaterial } from "./file-tls.ts";
import { type CallRefusal, GRPC_STATUS, Http2GrpcCall } from "./http2-grpc-call.ts";
import { listenOn } from "./net-listen.ts";

/** Stream resets that a connection may bring at once and per second: in effect no limit. */
const STREAM_RESETS_MAX = 4_000_000_000;
/** Open streams on one connection; each is an HTTP request from its start to its last byte. */
const STREAMS_PER_CONNECTION_MAX = 16_384;
/** Bytes of the headers of one gRPC call; those of the HTTP request come in a message. */
const HEADER_BYTES_MAX = 16_384;
/** Memory of one connection, MiB: at Node's default of 10, streams of large bodies are refused. */
const CONNECTION_MEMORY_MIB_MAX = 4096;
/** Receive window of one stream, bytes; the HTTP/2 default of 64 KiB stalls on large bodies. */
const STREAM_WINDOW_BYTES = 1_048_576;
/** Receive window of one connection, which carries all streams of an Envoy worker, bytes. */
const CONNECTION_WINDOW_BYTES = 16_777_216;
/**
 * Open connections, of which each thread that listens has its share; a gateway holds one for each worker
 * thread, some open one for each request.
 */
const CONNECTIONS_MAX = 16_384;
/** An idle or silent connection is asked for a sign of life so often, and cut without an answer. */
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_ANSWER_MS_MAX = 10_000;

/** By path, "/package.Service/Method". */
export type CallHandlers = ReadonlyMap<string, (call: Http2GrpcCall) => void>;

export type TransportRefusal = CallRefusal | "connection-limit";

export interface Http2GrpcOptions {
  /** host:port; port 0 takes a free one. */
  readonly address: string;
  readonly handlers: CallHandlers;
  /** Threads that listen on the address, each with a share of the connections. Default 1. */
  readonly threads?: number;
  /** Null: plain HTTP/2. */
  readonly tls: TlsMaterial | null;
  readonly clock: Clock;
  /** Called for each call refused, and each connection beyond this thread's CONNECTIONS_MAX. */
  readonly onRefused: (reason: TransportRefusal) => void;
}

export interface Http2GrpcServer {
  /** host:port as bound. */
  readonly address: string;
  /** For connections that come from now on; only of a server that began with TLS. */
  setTls(tls: TlsMaterial): void;
  /** Accepts no more connections and cuts those that are open. */
  close(): Promise<void>;
}

export async function listenHttp2Grpc(options: Http2GrpcOptions): Promise<Http2GrpcServer> {
  const settings = {
    settings: {
      initialWindowSize: STREAM_WINDOW_BYTES,
      maxConcurrentStreams: STREAMS_PER_CONNECTION_MAX,
      maxHeaderListSize: HEADER_BYTES_MAX,
      enablePush: false,
    },
    maxSessionMemory: CONNECTION_MEMORY_MIB_MAX,
    streamResetBurst: STREAM_RESETS_MAX,
    streamResetRate: STREAM_RESETS_MAX,
  };
  const { tls, threads = 1 } = options;
  const secure =
    tls === null ? null : http2.createSecureServer({ ...settings, ...tlsOptions(tls) });
  const server = secure ?? http2.createServer(settings);
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session: ServerHttp2Session) => {
    sessions.add(session);
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    const stopKeepalive = keepAlive(session, options.clock);
    // 'close' follows.
    session.on("error", () => {});
    session.once("close", () => {
      stopKeepalive();
      sessions.delete(session);
    });
  });
  server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) =>
    accept(stream, headers, options),
  );
  server.maxConnections = Math.ceil(CONNECTIONS_MAX / threads);
  server.on("drop", () => options.onRefused("connection-limit"));
  const address = await listenOn(server, options.address, { isShared: threads > 1 });
  return {
    address,
    setTls: (next) => secure?.setSecureContext(tlsOptions(next)),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const session of sessions) session.destroy();
      }),
  };
}

function accept(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { handlers, clock, onRefused }: Http2GrpcOptions,
): void {
  // Reset together with its beginning: it would never tell of its end.
  if (stream.destroyed || stream.closed) {
    stream.destroy();
    return;
  }
  const call = new Http2GrpcCall(stream, { clock, onRefused });
  if (headers[":method"] !== "POST") {
    call.reject(405);
    return;
  }
  if (!/^application\/grpc([+;]|$)/.test(String(headers["content-type"]))) {
    call.reject(415);
    return;
  }
  const handler = handlers.get(String(headers[":path"]));
  if (handler === undefined) {
    call.refuse("transport", { code: GRPC_STATUS.unimplemented, details: "no such method" });
    return;
  }
  const timeoutMs = timeoutMsOf(headers["grpc-timeout"]);
  if (timeoutMs !== null) {
    const end = { code: GRPC_STATUS.deadlineExceeded, details: "deadline exceeded" };
    stream.once(
      "close",
      clock.after(timeoutMs, () => call.refuse("caller-deadline", end)),
    );
  }
  handler(call);
}

const MS_PER_UNIT: ReadonlyMap<string, number> = new Map([
  ["H", 3_600_000],
  ["M", 60_000],
  ["S", 1000],
  ["m", 1],
  ["u", 1e-3],
  ["n", 1e-6],
]);
/** What a timer can wait for; a longer deadline is none. */
const TIMEOUT_MS_MAX = 2_147_483_647;

/** Null: the caller waits as long as it takes. */
function timeoutMsOf(header: string | string[] | undefined): number | null {
  const [, digits, unit] = /^(\d{1,8})([HMSmun])$/.exec(String(header)) ?? [];
  const timeoutMs = Number(digits) * (MS_PER_UNIT.get(unit ?? "") ?? Number.NaN);
  return timeoutMs <= TIMEOUT_MS_MAX ? timeoutMs : null;
}

function tlsOptions({ cert, key, clientCa }: TlsMaterial): http2.SecureServerOptions {
  const client = clientCa === null ? {} : { ca: clientCa, requestCert: true };
  return { cert, key, ...client, minVersion: "TLSv1.2", ALPNProtocols: ["h2"] };
}

/** Returns what ends it. */
function keepAlive(session: ServerHttp2Session, clock: Clock): () => void {
  let cancel = (): void => {};
  const wait = (): void => {
    cancel = clock.after(KEEPALIVE_MS, ask);
  };
  const ask = (): void => {
    if (session.destroyed) return;
    cancel = clock.after(KEEPALIVE_ANSWER_MS_MAX, () => session.destroy());
    session.ping((error) => {
      cancel();
      if (error === null) wait();
    });
  };
  wait();
  return () => cancel();
}
