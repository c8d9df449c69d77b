import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { plainAnswer, readBodyMessage, streamedBodyParts } from "./body-wire.ts";
import type { ProcessingRequest } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProcessingResponse } from "./gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import { loadExtProcPackage } from "./grpc-definition.ts";
import { streamedChunks } from "./responses.ts";

const { requestSerialize, requestDeserialize, responseSerialize, responseDeserialize } =
  loadExtProcPackage().definition.Process;

/** Lengths around those at which a length takes one byte more. */
const bytesArb = fc
  .oneof(fc.nat(20), fc.integer({ min: 100, max: 140 }), fc.integer({ min: 16_360, max: 16_400 }))
  .map((length) => Buffer.alloc(length, "body"));
const requestArb: fc.Arbitrary<ProcessingRequest> = fc
  .record({
    kind: fc.constantFrom("request_body", "response_body"),
    message: fc.record({ body: bytesArb, end_of_stream: fc.boolean() }, { requiredKeys: [] }),
    more: fc.constantFrom(
      {},
      { metadata_context: { filter_metadata: {} } },
      { protocol_config: { request_body_mode: "BUFFERED" as const } },
    ),
  })
  .map(({ kind, message, more }) => ({ [kind]: message, ...more }));

describe("body messages", () => {
  it("are read as the general codec reads them, or left to it", () => {
    let read = 0;
    fc.assert(
      fc.property(requestArb, (request) => {
        const bytes = requestSerialize(request);
        const message = readBodyMessage(bytes);
        if (message === null) return;
        read += 1;
        expect(message).toEqual(requestDeserialize(bytes));
      }),
    );
    expect(read).toBeGreaterThan(10);
    expect(readBodyMessage(requestSerialize({ request_headers: {} }))).toBe(null);
  });

  it("are read so, or left, whatever bytes have changed", () => {
    const change = fc.record({ at: fc.nat(30), byte: fc.nat(255), cut: fc.option(fc.nat(40)) });
    let read = 0;
    fc.assert(
      fc.property(requestArb, fc.array(change, { maxLength: 3 }), (request, changes) => {
        let bytes = Buffer.from(requestSerialize(request));
        for (const { at, byte, cut } of changes) {
          if (at < bytes.length) bytes[at] = byte;
          if (cut !== null) bytes = bytes.subarray(0, cut);
        }
        const message = readBodyMessage(bytes);
        if (message === null) return;
        read += 1;
        expect(message).toEqual(requestDeserialize(bytes));
      }),
      { numRuns: 5000 },
    );
    expect(read).toBeGreaterThan(100);
  });

  it("are written so that the general codec reads what it would have written", () => {
    const bodyArb = fc.oneof(bytesArb, fc.constant(Buffer.alloc(200_000, "long")));
    fc.assert(
      fc.property(
        fc.constantFrom("request_body", "response_body"),
        bodyArb,
        fc.boolean(),
        (kind, body, isEnd) => {
          for (const chunk of streamedChunks(body, isEnd)) {
            const response: ProcessingResponse = { [kind]: { response: chunk } };
            const parts = streamedBodyParts(response);
            if (parts === null) throw new Error("not written");
            const general = responseDeserialize(responseSerialize(response));
            const written = responseDeserialize(Buffer.concat(parts));
            const streamed = written[kind]?.response?.body_mutation?.streamed_response;
            const expected = general[kind]?.response?.body_mutation?.streamed_response;
            expect(streamed?.body ?? Buffer.alloc(0)).toEqual(expected?.body);
            expect(streamed?.end_of_stream ?? false).toBe(expected?.end_of_stream);
            expect(written.response).toBe(kind);
          }
        },
      ),
    );
  });

  it("with anything else in them are not written here", () => {
    const body_mutation = { streamed_response: { body: Buffer.from("x") } };
    const others: ProcessingResponse[] = [
      { request_body: {} },
      { request_body: { response: { body_mutation: { body: Buffer.from("x") } } } },
      { request_body: { response: { body_mutation, clear_route_cache: true } } },
      { request_body: { response: { body_mutation, header_mutation: {} } } },
      { request_body: { response: { body_mutation } }, dynamic_metadata: { fields: {} } },
      { request_headers: {} },
    ];
    for (const response of others) expect(streamedBodyParts(response)).toBe(null);
  });

  it("are answered without a change as the general codec does, or left to it", () => {
    const kinds = [
      ...["request_headers", "response_headers", "request_body", "response_body"],
      ...["request_trailers", "response_trailers"],
    ];
    for (const kind of kinds) {
      const bytes = plainAnswer({ [kind]: {} });
      expect(Buffer.from(bytes ?? [])).toEqual(responseSerialize({ [kind]: {} }));
      expect(plainAnswer({ [kind]: { response: {} } })).toBe(null);
      expect(plainAnswer({ [kind]: {}, dynamic_metadata: { fields: {} } })).toBe(null);
    }
    expect(plainAnswer({})).toBe(null);
    expect(plainAnswer({ immediate_response: {} })).toBe(null);
  });
});
