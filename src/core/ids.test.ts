import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blockKey, endpointId, engineKey, holderName, isEndpointAddress } from "./ids.ts";

describe("isEndpointAddress", () => {
  it.each(["10.0.0.1:8000", "[::1]:1", "[fe80::1%eth0]:65535", "pod-1.svc.local:80"])(
    "accepts %s",
    (text) => expect(isEndpointAddress(text)).toBe(true),
  );

  it.each([
    "",
    "10.0.0.1",
    "10.0.0.1:0",
    "10.0.0.1:65536",
    "10.0.0.1:0080",
    ":80",
    "::1:80",
    "a b:80",
    "http://a:80",
    "a:80/x",
    "a:80\n",
    `${"a".repeat(300)}:80`,
  ])("refuses %j", (text) => expect(isEndpointAddress(text)).toBe(false));
});

describe("ids", () => {
  it("takes no other text for an endpoint", () => {
    expect(() => endpointId("nowhere")).toThrow("host:port");
  });

  it("keeps the low 64 bits of keys, signed ones as two's complement", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }), (value) => {
        const expected = ((value % 2n ** 64n) + 2n ** 64n) % 2n ** 64n;
        expect(blockKey(value)).toBe(expected);
        expect(engineKey(value)).toBe(expected);
      }),
    );
  });

  it("names a holder by endpoint and rank", () => {
    expect(holderName({ endpointId: endpointId("h:1"), rank: 3 })).toBe("h:1#3");
  });
});
