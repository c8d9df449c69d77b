/**
 * Binds a grpc-js server to an address with HTTP/2 settings that grpc-js does not pass on.
 *
 * Node's HTTP/2 server takes resets beyond 33 a second on a connection for an attack and closes the
 * connection; a scheduler that gives up queries may send more. Node 24 can raise that limit, and this
 * is the place.
 */
import http2 from "node:http2";
import net from "node:net";
import grpc from "@grpc/grpc-js";
import { listenOn } from "../extproc/net-listen.ts";

/** Stream resets that a connection may bring at once and per second: in effect no limit. */
const STREAM_RESETS_MAX = 4_000_000_000;
/** Receive window of one stream, bytes; the HTTP/2 default of 64 KiB stalls on long prompts. */
const STREAM_WINDOW_BYTES = 1_048_576;
/** Receive window of one connection, bytes. */
const CONNECTION_WINDOW_BYTES = 16_777_216;
/** Open connections; a scheduler holds a few. */
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
  const address = await listenOn(listener, options.address);
  return {
    address,
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
