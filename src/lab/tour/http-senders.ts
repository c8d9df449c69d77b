/** Ways to send a completion request: to one address, in turns to several, or through the router. */
import http from "node:http";
import type { Readable } from "node:stream";
import { ExtProcClient } from "../grpc-ext-proc-client.ts";

const PATH = "/v1/completions";

export interface Reply {
  readonly status: number;
  /** Errors when the connection breaks. */
  readonly body: Readable;
}

export interface Sender {
  /** Rejects when no answer begins. The abort ends request and answer. */
  send(body: Uint8Array, signal: AbortSignal): Promise<Reply>;
  close(): void;
}

/** Sends to each address in turn; one address is the usual case, a gateway. */
export function httpSender(addresses: readonly string[]): Sender {
  const agent = new http.Agent({ keepAlive: true });
  let turn = 0;
  return {
    send: (body, signal): Promise<Reply> => {
      const address = addresses[turn % addresses.length];
      turn += 1;
      return new Promise((resolve, reject) => {
        const headers = { "content-type": "application/json", "content-length": body.length };
        const options = { agent, method: "POST", headers, signal };
        const request = http.request(`http://${address}${PATH}`, options);
        request.on("error", reject);
        request.on("response", (response) =>
          resolve({ status: response.statusCode ?? 0, body: response }),
        );
        request.end(body);
      });
    },
    close: (): void => agent.destroy(),
  };
}

/** Speaks Envoy's part of ext_proc to the router, for want of Envoy. */
export function extProcSender(routerAddress: string): Sender {
  const client = new ExtProcClient(routerAddress);
  const headers = { host: "kvatlas-tour", "content-type": "application/json" };
  return {
    send: (body, signal): Promise<Reply> =>
      new Promise((resolve, reject) => {
        let answer: Readable | null = null;
        const stop = (): void => {
          reject(new Error("aborted"));
          answer?.destroy();
        };
        signal.addEventListener("abort", stop, { once: true });
        client.send({ method: "POST", path: PATH, headers, body }).then((reply) => {
          answer = reply.body;
          reply.body.once("close", () => signal.removeEventListener("abort", stop));
          if (signal.aborted) stop();
          else resolve(reply);
        }, reject);
      }),
    close: (): void => client.close(),
  };
}
