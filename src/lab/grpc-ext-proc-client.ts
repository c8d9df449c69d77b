/**
 * Stands in for Envoy where none can be had: asks the router over ext_proc with Envoy's sequence
 * of messages, sends the request to the endpoint it names, and passes the answer back through the
 * stream, so that the router sees status, first byte and usage.
 *
 * For the lab: bodies are held in memory and nothing is retried.
 */
import http from "node:http";
import { PassThrough, type Readable } from "node:stream";
import type grpc from "@grpc/grpc-js";
import type { ExternalProcessorClient } from "../extproc/gen/envoy/service/ext_proc/v3/ExternalProcessor.ts";
import type { HeaderMap } from "../extproc/gen/envoy/service/ext_proc/v3/HeaderMap.ts";
import type { HeaderMutation__Output } from "../extproc/gen/envoy/service/ext_proc/v3/HeaderMutation.ts";
import type { ProcessingRequest } from "../extproc/gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProcessingResponse__Output } from "../extproc/gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import { loadExtProcPackage } from "../extproc/grpc-definition.ts";
import { DESTINATION_KEY } from "../extproc/header-map.ts";

/** Envoy sends no larger body messages. */
const CHUNK_BYTES_MAX = 65_536;
const DUPLEX = {
  request_body_mode: "FULL_DUPLEX_STREAMED",
  response_body_mode: "FULL_DUPLEX_STREAMED",
} as const;

export interface EdgeRequest {
  readonly method: string;
  readonly path: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

export interface EdgeResponse {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  /** Where the request went; null when the router refused it. */
  readonly endpoint: string | null;
  /** Errors when the endpoint or the router breaks off. */
  readonly body: Readable;
}

type Stream = grpc.ClientDuplexStream<ProcessingRequest, ProcessingResponse__Output>;

export class ExtProcClient {
  readonly #client: ExternalProcessorClient;
  readonly #agent = new http.Agent({ keepAlive: true });

  /** `address`: host:port of the router's ext_proc service. */
  constructor(address: string) {
    this.#client = loadExtProcPackage().createClient(address);
  }

  /** Resolves with the headers of the answer; rejects when router or endpoint cannot be reached. */
  send(request: EdgeRequest): Promise<EdgeResponse> {
    return new Promise((resolve, reject) => {
      new Exchange(this.#client.Process(), this.#agent, request, { resolve, reject }).start();
    });
  }

  close(): void {
    this.#client.close();
    this.#agent.destroy();
  }
}

interface Settle {
  readonly resolve: (response: EdgeResponse) => void;
  readonly reject: (reason: unknown) => void;
}

class Exchange {
  readonly #stream: Stream;
  readonly #agent: http.Agent;
  readonly #request: EdgeRequest;
  readonly #settle: Settle;
  /** What the caller reads: the chunks as the router gave them back. */
  readonly #out = new PassThrough();
  readonly #requestChunks: Uint8Array[] = [];
  #mutation: HeaderMutation__Output | undefined;
  #upstream: http.IncomingMessage | null = null;

  constructor(stream: Stream, agent: http.Agent, request: EdgeRequest, settle: Settle) {
    this.#stream = stream;
    this.#agent = agent;
    this.#request = request;
    this.#settle = settle;
  }

  start(): void {
    this.#stream.on("data", (message) => {
      try {
        this.#onMessage(message);
      } catch (reason) {
        this.#fail(reason);
      }
    });
    this.#stream.on("error", (reason) => this.#fail(reason));
    this.#stream.on("end", () => this.#fail(new Error("the router ended the stream early")));
    // Whoever reads the body hears of an error too; before that, the rejection tells it.
    this.#out.on("error", () => {});
    this.#out.on("close", () => this.#stop());
    const { method, path, headers, body } = this.#request;
    const pseudo = { ":method": method, ":path": path, ":scheme": "http" };
    const isEmpty = body.length === 0;
    this.#stream.write({
      request_headers: { headers: headerMap({ ...pseudo, ...headers }), end_of_stream: isEmpty },
      protocol_config: DUPLEX,
    });
    for (let start = 0; start < body.length; start += CHUNK_BYTES_MAX) {
      this.#stream.write({ request_body: { body: body.subarray(start, start + CHUNK_BYTES_MAX) } });
    }
    if (!isEmpty) this.#stream.write({ request_body: { end_of_stream: true } });
  }

  #onMessage(message: ProcessingResponse__Output): void {
    if (message.immediate_response !== undefined) this.#onImmediate(message.immediate_response);
    else if (message.request_headers !== undefined) {
      this.#mutation = message.request_headers.response?.header_mutation;
      if (this.#request.body.length === 0) this.#callEndpoint();
    } else if (message.request_body !== undefined) {
      const chunk = message.request_body.response?.body_mutation?.streamed_response;
      this.#requestChunks.push(chunk?.body ?? Buffer.alloc(0));
      if (chunk?.end_of_stream === true) this.#callEndpoint();
    } else if (message.response_body !== undefined) {
      const chunk = message.response_body.response?.body_mutation?.streamed_response;
      const isFull = chunk?.body !== undefined && !this.#out.write(chunk.body);
      if (isFull) this.#upstream?.pause();
      if (chunk?.end_of_stream === true) this.#out.end();
    }
  }

  #onImmediate(immediate: NonNullable<ProcessingResponse__Output["immediate_response"]>): void {
    this.#settle.resolve({
      status: immediate.status?.code ?? 500,
      headers: Object.fromEntries(mutatedHeaders(immediate.headers)),
      endpoint: null,
      body: this.#out,
    });
    this.#out.end(immediate.body ?? Buffer.alloc(0));
  }

  #callEndpoint(): void {
    const changed = mutatedHeaders(this.#mutation);
    const endpoint = changed.get(DESTINATION_KEY) ?? "";
    const body = Buffer.concat(this.#requestChunks);
    const { method, path, headers } = this.#request;
    const url = new URL(path, `http://${endpoint}`);
    const request = http.request(url, {
      agent: this.#agent,
      method,
      headers: { ...headers, ...Object.fromEntries(changed), "content-length": body.length },
    });
    request.on("error", (reason) => this.#fail(reason));
    request.on("response", (response) => this.#passResponse(response, endpoint));
    request.end(body);
  }

  #passResponse(response: http.IncomingMessage, endpoint: string): void {
    this.#upstream = response;
    const status = response.statusCode ?? 0;
    const pairs = Object.entries(response.headers).map(([name, value]) => [name, String(value)]);
    this.#stream.write({
      response_headers: {
        headers: headerMap({ ":status": String(status), ...Object.fromEntries(pairs) }),
      },
      metadata_context: {
        filter_metadata: {
          "envoy.lb": { fields: { [`${DESTINATION_KEY}-served`]: { stringValue: endpoint } } },
        },
      },
    });
    this.#settle.resolve({ status, headers: response.headers, endpoint, body: this.#out });
    response.on("data", (body: Buffer) => this.#stream.write({ response_body: { body } }));
    response.on("end", () => this.#stream.write({ response_body: { end_of_stream: true } }));
    response.on("error", (reason) => this.#fail(reason));
    this.#out.on("drain", () => response.resume());
  }

  #fail(reason: unknown): void {
    this.#settle.reject(reason);
    const isOver = this.#out.writableEnded || this.#out.destroyed;
    if (!isOver) this.#out.destroy(reason instanceof Error ? reason : new Error(String(reason)));
  }

  /** As Envoy does when the HTTP request is over, in whatever way. */
  #stop(): void {
    this.#upstream?.destroy();
    this.#stream.cancel();
  }
}

function headerMap(headers: Readonly<Record<string, string>>): HeaderMap {
  const entries = Object.entries(headers);
  return { headers: entries.map(([key, value]) => ({ key, raw_value: Buffer.from(value) })) };
}

function mutatedHeaders(mutation: HeaderMutation__Output | undefined): Map<string, string> {
  const headers = (mutation?.set_headers ?? []).map((option) => option.header);
  return new Map(
    headers.map((header) => [header?.key ?? "", header?.raw_value?.toString("utf8") ?? ""]),
  );
}
