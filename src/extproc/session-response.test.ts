import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  bodyMessage,
  feed,
  headersMessage,
  kinds,
  newSession,
  picked,
  pickOf,
  requestTrailers,
  responseBody,
  responseHeaders,
  responseTrailers,
  routedSession,
  routeToA,
  sent,
  shed,
} from "../../test/harness/ext-proc-messages.ts";
import { ANSWER_EVENTS_MAX, EVENTS_BATCH } from "./event-count.ts";
import type { ProcessingRequest__Output } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import { CHUNK_BYTES_MAX } from "./responses.ts";
import type { SessionOutput } from "./session-io.ts";

describe("a refusal", () => {
  it("is an immediate response in OpenAI's error form, and ends the stream", () => {
    const session = newSession();
    feed(session, headersMessage({}, { isEnd: true }));
    const outputs = picked(session, shed);
    expect(outputs[0]).toEqual({ kind: "count", reason: "overloaded" });
    expect(outputs[2]).toEqual({ kind: "close", outcome: "refused" });
    const immediate = sent(outputs)[0]?.immediate_response;
    expect(immediate?.status).toEqual({ code: 429 });
    expect(JSON.parse(String(immediate?.body))).toEqual({
      error: {
        message: "too many requests",
        type: "rate_limit_error",
        param: null,
        code: "overloaded",
      },
    });
    const headers = immediate?.headers?.set_headers?.map((each) => [
      each.header?.key,
      String(each.header?.raw_value),
    ]);
    expect(headers).toEqual([
      ["content-type", "application/json"],
      ["x-kvatlas-refused", "overloaded"],
    ]);
    expect(feed(session, responseHeaders())).toEqual([]);
  });

  it("is 413 for a body over the limit, as soon as it passes the limit", () => {
    const session = newSession({ bodyBytesMax: 10 });
    feed(session, headersMessage({}));
    expect(feed(session, bodyMessage(Buffer.alloc(10), false))).toEqual([]);
    const outputs = feed(session, bodyMessage(Buffer.alloc(1), false));
    expect(outputs[0]).toEqual({ kind: "count", reason: "body-too-large" });
    expect(sent(outputs)[0]?.immediate_response?.status).toEqual({ code: 413 });
  });

  it("is 413 on the headers when content-length is over the limit", () => {
    const outputs = feed(
      newSession({ bodyBytesMax: 10 }),
      headersMessage({ "content-length": "11" }),
    );
    expect(sent(outputs)[0]?.immediate_response?.status).toEqual({ code: 413 });
  });
});

describe("the deadline", () => {
  it.each(["deadline", "pick-failed"] as const)("asks for a choice by load on %s", (kind) => {
    const session = newSession();
    const request = pickOf(feed(session, headersMessage({}, { isEnd: true })));
    expect(session.receive({ kind })).toEqual([
      { kind: "cancel-pick" },
      { kind: "pick-by-load", request },
    ]);
    expect(sent(picked(session, routeToA, "load"))).toHaveLength(1);
    expect(picked(session, shed)).toEqual([]);
    expect(session.receive({ kind })).toEqual([]);
  });
});

describe("the response", () => {
  it("is told of where its token counts are not read, and why", () => {
    const usage = '{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1}}';
    const unread = (...messages: ProcessingRequest__Output[]): unknown[] =>
      feed(routedSession(), ...messages).flatMap((output) =>
        output.kind === "usage-unread" ? [output.reason] : [],
      );
    const packed = gzipSync(usage).toString("latin1");
    expect(unread(responseHeaders(), responseBody(usage, true))).toEqual([]);
    expect(unread(responseHeaders({ encoding: "identity" }), responseBody(usage, true))).toEqual(
      [],
    );
    expect(unread(responseHeaders({ encoding: "gzip" }), responseBody(packed, true))).toEqual([
      "encoded",
    ]);
    expect(unread(responseHeaders(), responseBody("data: [DONE]\n\n", true))).toEqual(["absent"]);
    expect(unread(responseHeaders({ isEnd: true }))).toEqual(["unseen"]);
    expect(unread(responseHeaders({ status: 400 }), responseBody("{}", true))).toEqual([]);
    expect(unread(responseHeaders(), responseBody("data: x\n\n", false))).toEqual([]);
  });

  it("passes in chunks unchanged, and the picker hears of each phase once", () => {
    const session = routedSession();
    const usage = '{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":3}}';
    const outputs = [
      ...feed(session, responseHeaders({ served: "10.0.0.1:8000" })),
      ...feed(session, responseBody('data: {"choices":[]}\n\n', false)),
      ...feed(session, responseBody(`data: {"usage":${usage}}\n\ndata: [DONE]\n\n`, false)),
      ...feed(session, responseBody("", true)),
    ];
    expect(kinds(outputs)).toEqual([
      "send",
      "response-started",
      "send",
      "first-byte",
      "send",
      "send",
      "ended",
    ]);
    expect(outputs[1]).toEqual({
      kind: "response-started",
      requestId: "own-id",
      status: 200,
      servedBy: "10.0.0.1:8000",
    });
    expect(outputs.at(-1)).toEqual({
      kind: "ended",
      requestId: "own-id",
      end: {
        outcome: "complete",
        usage: { promptTokens: 5, cachedTokens: 3, completionTokens: null },
      },
    });
    const [headers, ...bodies] = sent(outputs);
    expect(headers).toEqual({ response_headers: {} });
    const streamed = bodies.map(
      (each) => each.response_body?.response?.body_mutation?.streamed_response,
    );
    expect(streamed.map((each) => [String(each?.body).slice(0, 7), each?.end_of_stream])).toEqual([
      ["data: {", false],
      ["data: {", false],
      ["", true],
    ]);
    expect(session.receive({ kind: "cancelled" })).toEqual([
      { kind: "close", outcome: "complete" },
    ]);
  });

  it("tells of streamed tokens after the bytes have gone on, until the end", () => {
    const session = routedSession();
    feed(session, responseHeaders());
    const batch = 'data: {"choices":[]}\n\n'.repeat(EVENTS_BATCH);
    const first = feed(session, responseBody(batch, false));
    expect(kinds(first)).toEqual(["send", "first-byte", "progress"]);
    expect(first[2]).toEqual({ kind: "progress", requestId: "own-id", tokens: EVENTS_BATCH });
    expect(kinds(feed(session, responseBody("data: {}\n\n", false)))).toEqual(["send"]);
    expect(kinds(feed(session, responseBody(batch, true)))).toEqual([
      "send",
      "progress",
      "usage-unread",
      "ended",
    ]);
    expect(kinds(feed(session, responseBody(batch, false)))).not.toContain("progress");
  });

  it("splits a chunk over the chunk limit", () => {
    const session = routedSession();
    feed(session, responseHeaders());
    const answers = sent(feed(session, responseBody("x".repeat(CHUNK_BYTES_MAX + 1), true)));
    const ends = answers.map(
      (each) => each.response_body?.response?.body_mutation?.streamed_response?.end_of_stream,
    );
    expect(ends).toEqual([false, true]);
  });

  it("ends with its trailers, or with headers that carry the end of stream", () => {
    const withTrailers = routedSession();
    feed(withTrailers, responseHeaders(), responseBody("x", false));
    expect(kinds(feed(withTrailers, responseTrailers))).toEqual(["send", "usage-unread", "ended"]);
    const headersOnly = routedSession();
    expect(kinds(feed(headersOnly, responseHeaders({ isEnd: true })))).toEqual([
      "send",
      "response-started",
      "usage-unread",
      "ended",
    ]);
  });

  it("is acknowledged without body mutation outside the duplex mode", () => {
    const session = newSession();
    feed(session, headersMessage({}, { request: "FULL_DUPLEX_STREAMED", response: "STREAMED" }));
    feed(session, bodyMessage(undefined, true));
    picked(session, routeToA);
    feed(session, responseHeaders());
    expect(sent(feed(session, responseBody("x", true)))).toEqual([{ response_body: {} }]);
  });

  it("before the destination cancels the decision and takes a late route back", () => {
    const session = newSession();
    feed(session, headersMessage({}, { isEnd: true }));
    expect(kinds(feed(session, responseHeaders()))).toEqual(["cancel-pick", "send"]);
    expect(picked(session, routeToA)).toEqual([
      { kind: "ended", requestId: "own-id", end: { outcome: "aborted", usage: null } },
    ]);
    expect(picked(session, routeToA)).toEqual([]);
  });

  it("of a gateway that never sent the request is answered too", () => {
    const outputs = feed(newSession(), responseHeaders(), responseBody("x", true));
    expect(kinds(outputs)).toEqual(["send", "send"]);
  });
});

describe("the end of a stream", () => {
  it("cancelled in the response is an abort", () => {
    const session = routedSession();
    feed(session, responseHeaders());
    expect(session.receive({ kind: "cancelled" })).toEqual([
      { kind: "ended", requestId: "own-id", end: { outcome: "aborted", usage: null } },
      { kind: "close", outcome: "aborted" },
    ]);
    expect(session.receive({ kind: "cancelled" })).toEqual([]);
  });

  it("cancelled while picking cancels the decision and takes a late route back", () => {
    const session = newSession();
    feed(session, headersMessage({}, { isEnd: true }));
    expect(kinds(session.receive({ kind: "cancelled" }))).toEqual(["cancel-pick", "close"]);
    expect(kinds(picked(session, routeToA))).toEqual(["ended"]);
  });

  it("cancelled is complete where the gateway shows no response", () => {
    const session = newSession();
    const modes = { request: "FULL_DUPLEX_STREAMED", response: "NONE", isEnd: true } as const;
    feed(session, headersMessage({}, modes));
    picked(session, routeToA);
    expect(session.receive({ kind: "cancelled" })).toEqual([
      { kind: "usage-unread", reason: "unseen" },
      { kind: "ended", requestId: "own-id", end: { outcome: "complete", usage: null } },
      { kind: "close", outcome: "routed" },
    ]);
  });

  it("half-closed while picking waits for the answer", () => {
    const session = newSession();
    feed(session, headersMessage({}), bodyMessage(Buffer.from("ab"), true));
    expect(session.receive({ kind: "half-closed" })).toEqual([]);
    const outputs = picked(session, routeToA);
    expect(kinds(outputs)).toEqual(["send", "send", "usage-unread", "ended", "close"]);
    expect(outputs.at(-1)).toEqual({ kind: "close", outcome: "routed" });
  });

  it("half-closed after headers alone is the end of the request", () => {
    const session = newSession();
    feed(session, headersMessage({}));
    expect(kinds(session.receive({ kind: "half-closed" }))).toEqual(["pick"]);
    expect(kinds(picked(session, routeToA))).toEqual(["send", "usage-unread", "ended", "close"]);
  });

  it.each([
    ["a body", bodyMessage(Buffer.from("ab"), false)],
    ["a request of a gateway that states its modes", null],
  ])("half-closed within %s is an abort", (_, message) => {
    const session = newSession();
    feed(session, headersMessage({}, message === null ? { request: "FULL_DUPLEX_STREAMED" } : {}));
    if (message !== null) feed(session, message);
    expect(session.receive({ kind: "half-closed" })).toEqual([
      { kind: "close", outcome: "aborted" },
    ]);
  });

  it("half-closed before a response that the gateway shows is an abort", () => {
    const session = routedSession();
    expect(session.receive({ kind: "half-closed" })).toEqual([
      { kind: "ended", requestId: "own-id", end: { outcome: "aborted", usage: null } },
      { kind: "close", outcome: "aborted" },
    ]);
  });

  it("half-closed after the response is complete", () => {
    const session = routedSession();
    feed(session, responseHeaders({ isEnd: true }));
    expect(session.receive({ kind: "half-closed" })).toEqual([
      { kind: "close", outcome: "complete" },
    ]);
  });
});

describe("messages out of order", () => {
  it.each([
    ["body", bodyMessage(Buffer.from("x"), true)],
    ["trailers", requestTrailers],
  ])("refuses %s before headers with 400", (_, message) => {
    const outputs = feed(newSession(), message);
    expect(outputs[0]).toEqual({ kind: "count", reason: "protocol-order" });
    expect(sent(outputs)[0]?.immediate_response?.status).toEqual({ code: 400 });
  });

  it("counts second headers and answers them only when no answer is due", () => {
    const session = newSession();
    feed(session, headersMessage({}));
    expect(kinds(feed(session, headersMessage({})))).toEqual(["count"]);
    expect(kinds(feed(routedSession(), headersMessage({})))).toEqual(["count", "send"]);
  });

  it("counts a message of unknown kind and leaves the request to the failure mode", () => {
    expect(feed(routedSession(), {})).toEqual([
      { kind: "count", reason: "unknown-message" },
      { kind: "ended", requestId: "own-id", end: { outcome: "aborted", usage: null } },
      { kind: "close", outcome: "failed" },
    ]);
  });

  it("books every route exactly once out again, whatever comes in whatever order", () => {
    const messageArb = fc.constantFrom<ProcessingRequest__Output>(
      headersMessage({}),
      headersMessage({}, { isEnd: true }),
      headersMessage({}, { request: "BUFFERED" }),
      headersMessage({}, { request: "NONE" }),
      bodyMessage(Buffer.from("x"), false),
      bodyMessage(undefined, true),
      requestTrailers,
      responseHeaders(),
      responseBody("x", false),
      responseBody("", true),
      responseTrailers,
      {},
    );
    const stepArb = fc.oneof(
      {
        weight: 8,
        arbitrary: messageArb.map((message) => ({ kind: "message" as const, message })),
      },
      fc.constant({ kind: "picked" as const, by: "pick" as const, outcome: routeToA }),
      fc.constant({ kind: "picked" as const, by: "pick" as const, outcome: shed }),
      fc.constant({ kind: "deadline" as const }),
      fc.constant({ kind: "half-closed" as const }),
    );
    fc.assert(
      fc.property(fc.array(stepArb, { maxLength: 14 }), (steps) => {
        const session = newSession();
        const outputs: SessionOutput[] = [];
        let isPickOpen = false;
        const take = (news: readonly SessionOutput[]): void => {
          outputs.push(...news);
          for (const output of news) {
            if (output.kind === "pick") isPickOpen = true;
            if (output.kind === "cancel-pick") isPickOpen = false;
            if (output.kind === "pick-by-load") take(picked(session, routeToA, "load"));
          }
        };
        for (const step of [...steps, { kind: "cancelled" as const }]) {
          if (step.kind === "picked") {
            if (!isPickOpen) continue;
            isPickOpen = false;
          }
          take(session.receive(step));
        }
        const count = (kind: SessionOutput["kind"]): number =>
          outputs.filter((output) => output.kind === kind).length;
        const routes = sent(outputs).filter((each) => each.dynamic_metadata !== undefined).length;
        expect(count("close")).toBe(1);
        expect(count("ended")).toBe(routes);
        expect(count("pick")).toBeLessThanOrEqual(1);
      }),
      { numRuns: 500 },
    );
  });
});

it("counts once that the tokens of an answer are not counted any more", () => {
  const session = routedSession();
  feed(session, responseHeaders());
  const most = responseBody("data: {}\n".repeat(ANSWER_EVENTS_MAX - 1), false);
  expect(feed(session, most).some(({ kind }) => kind === "count")).toBe(false);
  const full = { kind: "count", reason: "answer-events" };
  expect(feed(session, responseBody("data: {}\ndata: {}\n", false))).toContainEqual(full);
  expect(kinds(feed(session, responseBody("data: {}\n", false)))).toEqual(["send"]);
});
