import { describe, expect, it } from "vitest";
import { endpointId } from "../core/ids.ts";
import { routeAnswer } from "./route-answer.ts";

describe("a body that the picker has changed", () => {
  const body = Buffer.from("another body");
  const request = {
    ...({ answers: "body", hasBody: true, hasTrailers: false, bodiesOwed: 0 } as const),
    ...{ body, isBodyChanged: true },
  };
  const route = {
    ...{ endpointId: endpointId("10.0.0.1:8000"), fallbackId: null, prefillId: null },
    ...{ isPrefillClaimed: false, requestId: null },
  };

  it("is streamed in place of the one that came", () => {
    const [, answer] = routeAnswer({ ...request, mode: "duplex" }, route);
    expect(answer?.request_body?.response?.body_mutation?.streamed_response).toEqual({
      ...{ body, end_of_stream: true },
    });
  });

  it("replaces a buffered one, with the header that Envoy holds its length against", () => {
    const [answer] = routeAnswer({ ...request, mode: "buffered" }, route);
    const { body_mutation: change, header_mutation: headers } =
      answer?.request_body?.response ?? {};
    expect(change).toEqual({ body });
    expect(headers?.set_headers?.at(-1)?.header).toEqual({
      key: "content-length",
      raw_value: Buffer.from(String(body.length)),
    });
  });
});
