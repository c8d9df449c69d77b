/**
 * Admin HTTP server: /metrics, /healthz, /readyz, and routes that other modules bring.
 *
 * /healthz says that the process lives and stays 200 while it drains; /readyz says whether it
 * should be sent requests. Answers other than metrics are JSON.
 */
import http from "node:http";
import type { AddressInfo } from "node:net";
import { assert } from "../core/assert.ts";
import { readBounded } from "../core/bounded-body.ts";
import { KvError, messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";

/** Connections at once; more are closed by Node. */
const CONNECTIONS_MAX = 256;
const HEADER_BYTES_MAX = 8192;
/** Time for a whole request. */
const REQUEST_MS_MAX = 5000;
/** How often Node looks for requests that are over their time; 30 s by default. */
const LATE_REQUESTS_LOOK_MS = 1000;
const KEEP_ALIVE_MS = 65_000;

export interface ReadyCheck {
  readonly name: string;
  readonly isOk: boolean;
  /** For people: what is missing, or what is there. */
  readonly detail: string;
}

export interface AdminAnswer {
  readonly status: number;
  /** Made into JSON. */
  readonly body: unknown;
}

export interface AdminRoute {
  /** "/debug/fleet"; matched as a whole. */
  readonly path: string;
  /** Largest body, bytes; a route with one takes POST in place of GET. It changes nothing either. */
  readonly bodyBytesMax?: number;
  /** `body`: empty without `bodyBytesMax`. */
  readonly handle: (url: URL, body: Uint8Array) => AdminAnswer | Promise<AdminAnswer>;
}

export interface HttpAdminDeps {
  readonly log: Log;
  /** Called for each read of /metrics. */
  readonly metrics: () => Promise<{ readonly contentType: string; readonly body: string }>;
  /** Ready when all are ok. */
  readonly readyChecks: () => readonly ReadyCheck[];
  readonly routes?: readonly AdminRoute[];
}

const NO_BODY = new Uint8Array(0);

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Handler {
  readonly bodyBytesMax: number;
  readonly handle: (url: URL, body: Uint8Array) => Answer | Promise<Answer>;
}

export class HttpAdmin {
  readonly #log: Log;
  readonly #handlers: ReadonlyMap<string, Handler>;
  readonly #server: http.Server;

  constructor(deps: HttpAdminDeps) {
    this.#log = deps.log;
    this.#handlers = handlersOf(deps);
    this.#server = http.createServer(
      {
        maxHeaderSize: HEADER_BYTES_MAX,
        requestTimeout: REQUEST_MS_MAX,
        headersTimeout: REQUEST_MS_MAX,
        connectionsCheckingInterval: LATE_REQUESTS_LOOK_MS,
        keepAliveTimeout: KEEP_ALIVE_MS,
      },
      (request, response) => {
        // The answer's promise ends in a response whatever happens; it never rejects.
        void this.#answer(request, response);
      },
    );
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /** Listens at "host:port"; port 0 takes a free one. Returns the address in use. */
  async start(listen: string): Promise<string> {
    const colon = listen.lastIndexOf(":");
    const host = listen.slice(0, colon).replace(/^\[|\]$/g, "");
    const port = Number(listen.slice(colon + 1));
    assert(colon > 0 && Number.isInteger(port), "listen address must be host:port", { listen });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (cause: NodeJS.ErrnoException) => {
        const isInUse = cause.code === "EADDRINUSE";
        const message = isInUse
          ? `admin server: ${listen} is in use; set observe.adminListen to a free address`
          : `admin server cannot listen at ${listen}: ${cause.message}`;
        reject(isInUse ? new KvError("ERR_PORT_IN_USE", message, { cause }) : new Error(message));
      });
      this.#server.listen(port, host, resolve);
    });
    this.#server.removeAllListeners("error");
    this.#server.on("error", (reason) => {
      this.#log.error({ reason: reason.message }, "admin server error");
    });
    const address = addressText(this.#server.address());
    this.#log.info({ address }, "admin server listens");
    return address;
  }

  /** Ends at once: no answer of this server is worth waiting for. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    let answer: Answer;
    try {
      answer = await this.#route(request);
    } catch (reason) {
      this.#log.error({ path: request.url, reason: messageOf(reason) }, "admin request failed");
      answer = json(500, { error: "internal error" });
    }
    const body = Buffer.from(answer.body);
    response.writeHead(answer.status, {
      ...answer.headers,
      "content-type": answer.contentType,
      "content-length": body.length,
      "cache-control": "no-store",
    });
    response.end(request.method === "HEAD" ? undefined : body);
  }

  async #route(request: http.IncomingMessage): Promise<Answer> {
    const target = request.url ?? "/";
    // The base is never shown: it only lets the path be parsed as a URL.
    const url = URL.canParse(target, "http://admin") ? new URL(target, "http://admin") : null;
    const handler = url === null ? undefined : this.#handlers.get(url.pathname);
    if (url === null || handler === undefined) {
      return json(404, { error: "no such path", paths: [...this.#handlers.keys()] });
    }
    const { bodyBytesMax, handle } = handler;
    const methods = bodyBytesMax > 0 ? ["POST"] : ["GET", "HEAD"];
    if (!methods.includes(request.method ?? "")) {
      const refusal = json(405, { error: `method ${request.method} is not allowed` });
      return { ...refusal, headers: { allow: methods.join(", ") } };
    }
    if (bodyBytesMax === 0) return handle(url, NO_BODY);
    const body = await readBounded(request, bodyBytesMax);
    if (body !== null) return handle(url, body);
    // What is not read any more cannot be followed by another request.
    const refusal = json(413, { error: `the body is over ${bodyBytesMax} bytes` });
    return { ...refusal, headers: { connection: "close" } };
  }
}

function handlersOf(deps: HttpAdminDeps): ReadonlyMap<string, Handler> {
  const own = (handle: Handler["handle"]): Handler => ({ bodyBytesMax: 0, handle });
  const handlers = new Map([
    ["/metrics", own(async () => ({ status: 200, ...(await deps.metrics()) }))],
    ["/healthz", own(() => json(200, { isAlive: true }))],
    ["/readyz", own(() => readiness(deps.readyChecks()))],
  ]);
  for (const { path, bodyBytesMax = 0, handle } of deps.routes ?? []) {
    assert(!handlers.has(path), "two admin routes for one path", { path });
    const answer = async (url: URL, body: Uint8Array): Promise<Answer> => {
      const { status, body: content } = await handle(url, body);
      return json(status, content);
    };
    handlers.set(path, { bodyBytesMax, handle: answer });
  }
  return handlers;
}

function readiness(checks: readonly ReadyCheck[]): Answer {
  const isReady = checks.every((check) => check.isOk);
  return json(isReady ? 200 : 503, { isReady, checks });
}

function json(status: number, body: unknown): Answer {
  return { status, contentType: "application/json", body: `${JSON.stringify(body, null, 2)}\n` };
}

function addressText(address: AddressInfo | string | null): string {
  assert(address !== null && typeof address === "object", "server is not listening on a port");
  return address.family === "IPv6"
    ? `[${address.address}]:${address.port}`
    : `${address.address}:${address.port}`;
}
