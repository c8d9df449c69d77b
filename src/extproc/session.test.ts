import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  bodyMessage,
  destinationHeader,
  destinationMetadata,
  feed,
  headersMessage,
  kinds,
  newSession,
  picked,
  pickOf,
  requestTrailers,
  routeToA,
  sent,
} from "../../test/harness/ext-proc-messages.ts";
import { endpointId } from "../core/ids.ts";
import { BodyBudget } from "./body-budget.ts";
import type { ProcessingRequest__Output } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import { CHUNK_BYTES_MAX } from "./responses.ts";
import { UNCOUNTED_HEADERS_MAX } from "./session.ts";
import type { SessionOutput } from "./session-io.ts";

describe("a full-duplex request", () => {
  it("holds the headers' answer until the end of the body", () => {
    const session = newSession();
    expect(feed(session, headersMessage({}))).toEqual([]);
    expect(feed(session, bodyMessage(Buffer.from("ab"), false))).toEqual([]);
    const request = pickOf(feed(session, bodyMessage(Buffer.from("cd"), true)));
    expect(Buffer.from(request.body).toString()).toBe("abcd");
    expect(request).toMatchObject({ method: "POST", path: "/v1/completions", subset: null });
  });

  it("answers with header, metadata and cleared route cache, then the body", () => {
    const session = newSession();
    feed(session, headersMessage({ "x-request-id": "r1" }), bodyMessage(Buffer.from("abcd"), true));
    expect(sent(picked(session, routeToA))).toEqual([
      {
        request_headers: {
          response: {
            header_mutation: { set_headers: [destinationHeader] },
            clear_route_cache: true,
          },
        },
        dynamic_metadata: destinationMetadata,
      },
      {
        request_body: {
          response: {
            body_mutation: {
              streamed_response: { body: Buffer.from("abcd"), end_of_stream: true },
            },
          },
        },
      },
    ]);
  });

  it("accepts an empty last body message without a body field", () => {
    const session = newSession();
    feed(session, headersMessage({}), bodyMessage(Buffer.from("ab"), false));
    const request = pickOf(feed(session, bodyMessage(undefined, true)));
    expect(Buffer.from(request.body).toString()).toBe("ab");
  });

  it("passes the bytes of a body in one message on without copying them", () => {
    const session = newSession();
    const body = Buffer.from("abcd");
    const request = pickOf(feed(session, headersMessage({}), bodyMessage(body, true)));
    expect(request.body).toBe(body);
    const [, answer] = sent(picked(session, routeToA));
    const chunk = answer?.request_body?.response?.body_mutation?.streamed_response?.body;
    expect(Buffer.isBuffer(chunk) && chunk.buffer === body.buffer).toBe(true);
  });

  it("ignores a second, empty end of stream and counts late bytes", () => {
    const session = newSession();
    feed(session, headersMessage({}), bodyMessage(Buffer.from("ab"), true));
    expect(feed(session, bodyMessage(undefined, true))).toEqual([]);
    expect(feed(session, bodyMessage(Buffer.from("x"), true))).toEqual([
      { kind: "count", reason: "protocol-order" },
    ]);
    expect(sent(picked(session, routeToA))).toHaveLength(2);
  });

  it("picks at once on a request without body", () => {
    const session = newSession();
    const request = pickOf(feed(session, headersMessage({ ":method": "GET" }, { isEnd: true })));
    expect(request.body).toHaveLength(0);
    expect(sent(picked(session, routeToA))).toHaveLength(1);
  });

  it("takes headers beyond some from the budget of bodies until it is routed", () => {
    const budget = new BodyBudget(10_000);
    const asked = (excess: number): SessionOutput[] => {
      const fields = { "x-long": "v".repeat(UNCOUNTED_HEADERS_MAX + excess) };
      return feed(session, headersMessage(fields, { isEnd: true }));
    };
    let session = newSession({ bodyBudget: budget });
    expect(kinds(asked(9000))).toEqual(["pick"]);
    expect(budget.bytes).toBeGreaterThanOrEqual(9000);
    picked(session, routeToA);
    session.releaseBody();
    expect(budget.bytes).toBe(0);
    session = newSession({ bodyBudget: budget });
    expect(asked(11_000)).toContainEqual({ kind: "count", reason: "body-budget" });
    session.dispose();
    expect(budget.bytes).toBe(0);
  });

  it("waits no longer for a body where headers come again and say that none follows", () => {
    for (const bodies of [[], [bodyMessage(Buffer.from("ab"), false)]]) {
      const session = newSession();
      feed(session, headersMessage({}), ...bodies);
      const again = feed(session, headersMessage({}, { isEnd: true }));
      expect(kinds(again)).toEqual(["count", "pick"]);
      expect(sent(picked(session, routeToA))).toHaveLength(1 + bodies.length);
    }
  });

  it("answers trailers after the body, and leaves the end of stream to them", () => {
    const session = newSession();
    feed(session, headersMessage({}), bodyMessage(Buffer.from("ab"), false));
    expect(kinds(feed(session, requestTrailers))).toEqual(["pick"]);
    const [, body, trailers] = sent(picked(session, routeToA));
    expect(body?.request_body?.response?.body_mutation?.streamed_response).toEqual({
      body: Buffer.from("ab"),
      end_of_stream: false,
    });
    expect(trailers).toEqual({ request_trailers: {} });
  });

  it("reassembles to the same bytes for any chunking, with one end of stream, headers first", () => {
    const bytes = fc.uint8Array({ maxLength: 200 });
    const chunksArb = fc.array(
      fc.oneof(
        bytes,
        fc.integer({ min: 0, max: 150_000 }).map((length) => new Uint8Array(length).fill(7)),
      ),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(chunksArb, fc.boolean(), (chunks, isEndApart) => {
        const session = newSession({ bodyBytesMax: 2_000_000 });
        feed(session, headersMessage({}));
        for (const [depth, chunk] of chunks.entries()) {
          const isEnd = !isEndApart && depth === chunks.length - 1;
          feed(session, bodyMessage(Buffer.from(chunk), isEnd));
        }
        if (isEndApart || chunks.length === 0) feed(session, bodyMessage(undefined, true));

        const [first, ...rest] = sent(picked(session, routeToA));
        expect(first?.request_headers).toBeDefined();
        const streamed = rest.map(
          (each) => each.request_body?.response?.body_mutation?.streamed_response,
        );
        const parts = streamed.map((each) => Buffer.from(each?.body ?? "missing"));
        expect(Buffer.concat(parts).equals(Buffer.concat(chunks))).toBe(true);
        expect(parts.every((part) => part.length <= CHUNK_BYTES_MAX)).toBe(true);
        expect(streamed.map((each) => each?.end_of_stream)).toEqual(
          streamed.map((_, index) => index === streamed.length - 1),
        );
      }),
    );
  });
});

describe("a buffered request", () => {
  it("answers the headers at once and routes with the body's answer", () => {
    const session = newSession();
    const outputs = feed(session, headersMessage({ "x-request-id": "r" }, { request: "BUFFERED" }));
    expect(sent(outputs)).toEqual([{ request_headers: {} }]);
    expect(kinds(feed(session, bodyMessage(Buffer.from("ab"), true)))).toEqual(["pick"]);
    expect(sent(picked(session, routeToA))).toEqual([
      {
        request_body: {
          response: {
            header_mutation: { set_headers: [destinationHeader] },
            clear_route_cache: true,
          },
        },
        dynamic_metadata: destinationMetadata,
      },
    ]);
  });

  it("is configurable for gateways that do not state their mode", () => {
    const session = newSession({ bodyMode: "buffered" });
    expect(sent(feed(session, headersMessage({})))).toEqual([{ request_headers: {} }]);
  });

  it("picks on a body message without end of stream, as one that trailers follow", () => {
    const session = newSession({ bodyMode: "buffered" });
    feed(session, headersMessage({}));
    expect(kinds(feed(session, bodyMessage(Buffer.from("ab"), false)))).toEqual(["pick"]);
    picked(session, routeToA);
    expect(sent(feed(session, requestTrailers))).toEqual([{ request_trailers: {} }]);
  });

  it("routes by metadata when only trailers follow the headers", () => {
    const session = newSession({ bodyMode: "buffered" });
    feed(session, headersMessage({}));
    expect(kinds(feed(session, requestTrailers))).toEqual(["pick"]);
    expect(sent(picked(session, routeToA))).toEqual([
      { request_trailers: {}, dynamic_metadata: destinationMetadata },
    ]);
  });
});

describe("a request whose body does not stay with us", () => {
  it("is routed on its headers, and body messages are acknowledged in order", () => {
    const session = newSession();
    const headers = headersMessage({ "x-request-id": "r" }, { request: "STREAMED" });
    expect(kinds(feed(session, headers))).toEqual(["pick"]);
    expect(feed(session, bodyMessage(Buffer.from("ab"), false))).toEqual([]);
    const answers = sent(picked(session, routeToA));
    expect(answers.map((answer) => Object.keys(answer)[0])).toEqual([
      "request_headers",
      "request_body",
    ]);
    expect(sent(feed(session, bodyMessage(Buffer.from("cd"), true)))).toEqual([
      { request_body: {} },
    ]);
  });
});

describe("request headers", () => {
  it("hides routing headers of the client from the picker", () => {
    const request = pickOf(
      feed(
        newSession(),
        headersMessage(
          {
            "x-gateway-destination-endpoint": "6.6.6.6:6",
            "X-Gateway-Destination-Endpoint-Subset": "6.6.6.6",
            "x-gateway-inference-objective": "batch",
          },
          { isEnd: true },
        ),
      ),
    );
    expect([...request.headers]).toEqual([["x-gateway-inference-objective", "batch"]]);
  });

  it("accepts text in `value` where `raw_value` is missing", () => {
    const message: ProcessingRequest__Output = {
      request: "request_headers",
      request_headers: {
        headers: {
          headers: [
            { key: "Model", value: "m" },
            { key: "model", value: "n" },
          ],
        },
        end_of_stream: true,
      },
    };
    const request = pickOf(feed(newSession(), message));
    expect(request.headers.get("model")).toBe("m, n");
    expect(request).toMatchObject({ method: "POST", path: "" });
  });

  it("makes a request id where there is none, and hands it to the endpoint", () => {
    const session = newSession();
    expect(pickOf(feed(session, headersMessage({}, { isEnd: true }))).requestId).toBe("own-id");
    const [answer] = sent(picked(session, routeToA));
    expect(answer?.request_headers?.response?.header_mutation?.set_headers?.[1]?.header).toEqual({
      key: "x-request-id",
      raw_value: Buffer.from("own-id"),
    });
  });
});

describe("a fallback", () => {
  const route = { ...routeToA, fallbackId: endpointId("10.0.0.2:8000") };
  const destinationOf = (outputs: readonly SessionOutput[]): unknown[] => {
    const [answer] = sent(outputs);
    const option = answer?.request_headers?.response?.header_mutation?.set_headers?.[0];
    const namespace = answer?.dynamic_metadata?.fields?.["envoy.lb"]?.structValue?.fields;
    const name = "x-gateway-destination-endpoint";
    return [option?.header?.raw_value?.toString(), namespace?.[name]?.stringValue];
  };

  it("is named behind the destination in header and metadata where that is asked for", () => {
    const session = newSession({ isFallbackNamed: true });
    feed(session, headersMessage({}, { isEnd: true }));
    const list = "10.0.0.1:8000,10.0.0.2:8000";
    expect(destinationOf(picked(session, route))).toEqual([list, list]);
  });

  it("is left out otherwise", () => {
    const session = newSession();
    feed(session, headersMessage({}, { isEnd: true }));
    expect(destinationOf(picked(session, route))).toEqual(["10.0.0.1:8000", "10.0.0.1:8000"]);
  });
});

describe("the endpoint that prefills", () => {
  const headersOf = (outputs: readonly SessionOutput[]): unknown => {
    const [answer] = sent(outputs);
    const mutation = answer?.request_headers?.response?.header_mutation;
    const set = (mutation?.set_headers ?? []).map(
      ({ header }) => `${header?.key}: ${header?.raw_value?.toString()}`,
    );
    return { set: set.slice(0, 2), removed: mutation?.remove_headers ?? [] };
  };
  const spoofed = headersMessage(
    { "x-request-id": "r1", "x-prefiller-host-port": "10.9.9.9:22" },
    { isEnd: true },
  );
  const split = { ...routeToA, prefillId: endpointId("10.0.0.7:8000") };

  it("is named beside the destination, which decodes", () => {
    const session = newSession();
    const request = pickOf(feed(session, spoofed));
    expect([...request.headers.keys()]).not.toContain("x-prefiller-host-port");
    expect(headersOf(picked(session, split))).toEqual({
      set: [
        "x-gateway-destination-endpoint: 10.0.0.1:8000",
        "x-prefiller-host-port: 10.0.0.7:8000",
      ],
      removed: [],
    });
  });

  it("is never the one that a client names", () => {
    const session = newSession();
    feed(session, spoofed);
    expect(headersOf(picked(session, routeToA))).toEqual({
      set: ["x-gateway-destination-endpoint: 10.0.0.1:8000"],
      removed: ["x-prefiller-host-port"],
    });
  });
});
