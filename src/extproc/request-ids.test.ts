import { describe, expect, it } from "vitest";
import { seededRandom } from "../core/random.ts";
import { RequestIds } from "./request-ids.ts";

describe("RequestIds", () => {
  it("takes the client's id over", () => {
    const ids = new RequestIds(seededRandom(1));
    expect(ids.claim("abc-1")).toEqual({ requestId: "abc-1", isOwn: false });
  });

  it("tells apart two requests in flight with the same id", () => {
    const ids = new RequestIds(seededRandom(1));
    ids.claim("abc");
    expect(ids.claim("abc").requestId).toMatch(/^abc\.[0-9a-f]{16}$/);
    ids.release("abc");
    expect(ids.claim("abc").requestId).toBe("abc");
  });

  it.each([undefined, "", "a b", "x".repeat(129)])("makes an id instead of %j", (clientId) => {
    const { requestId, isOwn } = new RequestIds(seededRandom(1)).claim(clientId);
    expect(requestId).toMatch(/^kva-[0-9a-f]{16}$/);
    expect(isOwn).toBe(true);
  });
});
