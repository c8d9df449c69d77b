/**
 * Binds a grpc-js server to an address with HTTP/2 settings that grpc-js does not pass on.
 *
 * Envoy resets every ext_proc stream when its HTTP request is over. Node's HTTP/2 server takes
 * resets beyond 33 a second on a connection for an attack and closes the connection, which fails
 * the requests under way; Node 24 can raise that limit, and this is the place. The peers of this
 * service are gateways of the same operator, and streams are bounded without it.
 */
import http2 from "node:http2";
import net from "node:net";
import grpc from "@grpc/grpc-js";
import { KvError, messageOf } from "../core/errors.ts";

/** Stream resets that a connection may bring at once and per second: in effect no limit. */
const STREAM_RESETS_MAX = 4_000_000_000;
/** Receive window of one stream, bytes; the HTTP/2 default of 64 KiB stalls on large bodies. */
const STREAM_WINDOW_BYTES = 1_048_576;
/** Receive window of one connection, which carries all streams of an Envoy worker, bytes. */
const CONNECTION_WINDOW_BYTES = 16_777_216;
/** Open connections; a gateway holds one for each worker thread, some open one for each request. */
const CONNECTIONS_MAX = 16_384;

export interface GrpcListener {
  /** host:port as bound. */
  readonly address: string;
  /** Accepts no more connections and cuts those that are open. */
  close(): Promise<void>;
}

export async function listenGrpc(options: {
  readonly server: grpc.Server;
  /** host:port; port 0 takes a free one. */
  readonly address: string;
  /** Called for each connection refused because CONNECTIONS_MAX are open. */
  readonly onRefused: () => void;
}): Promise<GrpcListener> {
  const injector = withHttp2Settings(() =>
    options.server.createConnectionInjector(grpc.ServerCredentials.createInsecure()),
  );
  const sockets = new Set<net.Socket>();
  const listener = net.createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    injector.injectConnection(socket);
  });
  listener.maxConnections = CONNECTIONS_MAX;
  listener.on("drop", options.onRefused);
  await listen(listener, options.address);
  const bound = listener.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : 0;
  return {
    address: `${splitAddress(options.address).hostText}:${port}`,
    close: () =>
      new Promise((resolve) => {
        listener.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** grpc-js calls http2.createServer inside `create`, synchronously. */
function withHttp2Settings<Created>(create: () => Created): Created {
  const original = http2.createServer;
  const replaced = (
    options: http2.ServerOptions,
    handler?: (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void,
  ): http2.Http2Server => {
    const server = original(
      {
        ...options,
        settings: { ...options.settings, initialWindowSize: STREAM_WINDOW_BYTES },
        streamResetBurst: STREAM_RESETS_MAX,
        streamResetRate: STREAM_RESETS_MAX,
      },
      handler,
    );
    server.on("session", (session) => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
    return server;
  };
  http2.createServer = replaced as typeof http2.createServer;
  try {
    return create();
  } finally {
    http2.createServer = original;
  }
}

function listen(listener: net.Server, address: string): Promise<void> {
  const { host, port } = splitAddress(address);
  return new Promise((resolve, reject) => {
    listener.once("error", (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === "EADDRINUSE";
      reject(
        isTaken
          ? new KvError("ERR_PORT_IN_USE", `address ${address} is in use`, { cause })
          : new KvError("ERR_CONFIG_INVALID", `cannot listen on ${address}: ${messageOf(cause)}`, {
              cause,
            }),
      );
    });
    listener.listen({ host, port }, () => resolve());
  });
}

function splitAddress(address: string): {
  readonly hostText: string;
  readonly host: string;
  readonly port: number;
} {
  const colon = address.lastIndexOf(":");
  const hostText = address.slice(0, colon);
  return {
    hostText,
    host: hostText.replace(/^\[|\]$/g, ""),
    port: Number(address.slice(colon + 1)),
  };
}
