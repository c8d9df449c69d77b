import { describe, expect, it } from "vitest";
import {
  feed,
  headersMessage,
  kinds,
  newSession,
  pickOf,
  sent,
} from "../../test/harness/ext-proc-messages.ts";
import type { ProcessingRequest__Output } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";

describe("the subset hint", () => {
  const hinted = (hint: object): ProcessingRequest__Output => ({
    ...headersMessage({}, { isEnd: true }),
    metadata_context: {
      filter_metadata: {
        "envoy.lb.subset_hint": { fields: { "x-gateway-destination-endpoint-subset": hint } },
      },
    },
  });

  it("is read from a list", () => {
    const values = [{ stringValue: "10.0.0.1:8000" }, { stringValue: " 10.0.0.2 " }];
    const request = pickOf(feed(newSession(), hinted({ listValue: { values } })));
    expect(request.subset).toEqual(["10.0.0.1:8000", "10.0.0.2"]);
  });

  it("is read from a comma-separated string", () => {
    const request = pickOf(feed(newSession(), hinted({ stringValue: "10.0.0.1:8000, 10.0.0.2" })));
    expect(request.subset).toEqual(["10.0.0.1:8000", "10.0.0.2"]);
  });

  it.each([
    ["an empty list", { listValue: {} }],
    ["an empty string", { stringValue: "" }],
    ["a number", { numberValue: 3 }],
  ])("refuses with 503 when it is %s", (_, hint) => {
    const outputs = feed(newSession(), hinted(hint));
    expect(kinds(outputs)).toEqual(["count", "send", "close"]);
    expect(sent(outputs)[0]?.immediate_response?.status).toEqual({ code: 503 });
  });
});

describe("the conformance tests' selection of endpoints", () => {
  const selecting = (hint?: string): ProcessingRequest__Output => ({
    ...headersMessage(
      { "test-epp-endpoint-selection": "10.0.0.1, 10.0.0.3:8000" },
      { isEnd: true },
    ),
    ...(hint === undefined
      ? {}
      : {
          metadata_context: {
            filter_metadata: {
              "envoy.lb.subset_hint": {
                fields: { "x-gateway-destination-endpoint-subset": { stringValue: hint } },
              },
            },
          },
        }),
  });
  const subsetOf = (hint?: string): readonly string[] | null =>
    pickOf(feed(newSession({ isTestSelectionOn: true }), selecting(hint))).subset;

  it("has no effect unless it is switched on", () => {
    expect(pickOf(feed(newSession(), selecting())).subset).toBe(null);
  });

  it("restricts the endpoints, within the gateway's subset hint", () => {
    expect(subsetOf()).toEqual(["10.0.0.1", "10.0.0.3:8000"]);
    expect(subsetOf("10.0.0.1:8000,10.0.0.2:8000")).toEqual(["10.0.0.1"]);
    expect(subsetOf("10.0.0.3")).toEqual(["10.0.0.3:8000"]);
  });

  it("is refused with 503 when the hint allows none of them", () => {
    const session = newSession({ isTestSelectionOn: true });
    const [answer] = sent(feed(session, selecting("10.0.0.9:8000")));
    expect(answer?.immediate_response?.status).toEqual({ code: 503 });
  });
});
