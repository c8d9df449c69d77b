/** Plain HTTP requests for tests, with every byte and its time visible. */
import http from "node:http";
import { nodeClock } from "../../src/core/node-clock.ts";

export interface TestRequest {
  /** host:port. */
  readonly address: string;
  readonly path: string;
  /** Default GET, or POST with a body. */
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
  /** Sends the body in these pieces, without content-length. */
  readonly chunks?: readonly Uint8Array[];
  readonly agent?: http.Agent;
  /** Called at each piece of the answer. */
  readonly onPiece?: () => void;
}

export interface TestResponse {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  /** Time of each piece of the body, ms after the request was made. */
  readonly chunkMs: readonly number[];
}

export function send(options: TestRequest): Promise<TestResponse> {
  const { address, path, body, chunks } = options;
  const hasBody = body !== undefined || chunks !== undefined;
  const startMs = nodeClock.nowMs();
  return new Promise((resolve, reject) => {
    const request = http.request(`http://${address}${path}`, {
      method: options.method ?? (hasBody ? "POST" : "GET"),
      headers: {
        ...options.headers,
        ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }),
      },
      ...(options.agent === undefined ? {} : { agent: options.agent }),
    });
    request.on("error", reject);
    request.on("response", (response) => {
      const pieces: Buffer[] = [];
      const chunkMs: number[] = [];
      response.on("data", (piece: Buffer) => {
        pieces.push(piece);
        options.onPiece?.();
        chunkMs.push(nodeClock.nowMs() - startMs);
      });
      response.on("error", reject);
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(pieces),
          chunkMs,
        }),
      );
    });
    for (const chunk of chunks ?? []) request.write(chunk);
    request.end(body);
  });
}
