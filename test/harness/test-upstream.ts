/** A tiny HTTP server in an engine's place: echo, server-sent events, and who answered. */
import http from "node:http";
import { nodeClock } from "../../src/core/node-clock.ts";

/** Events of /sse and the time between them. */
export const SSE_EVENTS = 20;
export const SSE_INTERVAL_MS = 40;
const METRICS = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n";
const USAGE =
  '{"prompt_tokens":7,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":4}}';

export interface TestUpstream {
  /** ip:port. */
  readonly address: string;
  /** Requests to /silent so far. */
  readonly silentRequests: number;
  close(): Promise<void>;
}

/**
 * /echo answers with the request's body; /sse streams; /silent never answers; /metrics is an
 * idle engine's; anything else answers
 * with the request's headers as JSON. `x-served-by` names the upstream, `x-chosen` the endpoint that
 * the request's destination header names, empty without one.
 */
export function startUpstream(): Promise<TestUpstream> {
  let address = "";
  let silentRequests = 0;
  const server = http.createServer((request, response) => {
    response.setHeader("x-served-by", address);
    response.setHeader("x-chosen", request.headers["x-gateway-destination-endpoint"] ?? "");
    if (request.url === "/echo") request.pipe(response);
    else if (request.url === "/sse") streamEvents(response);
    else if (request.url === "/silent") silentRequests += 1;
    else if (request.url === "/metrics") response.end(METRICS);
    else request.resume().on("end", () => response.end(JSON.stringify(request.headers)));
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const bound = server.address();
      address = `127.0.0.1:${typeof bound === "object" && bound !== null ? bound.port : 0}`;
      resolve({
        address,
        get silentRequests() {
          return silentRequests;
        },
        close: () => closeServer(server),
      });
    });
  });
}

function streamEvents(response: http.ServerResponse): void {
  response.setHeader("content-type", "text/event-stream");
  let sent = 0;
  const next = (): void => {
    if (sent === SSE_EVENTS) {
      response.end(`data: {"choices":[],"usage":${USAGE}}\n\ndata: [DONE]\n\n`);
      return;
    }
    response.write(`data: {"choices":[{"text":"token ${sent}"}]}\n\n`);
    sent += 1;
    nodeClock.after(SSE_INTERVAL_MS, next);
  };
  next();
}

function closeServer(server: http.Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}
