import { describe, expect, it } from "vitest";
import { nearestOf, pathText, shortened } from "./problems.ts";

describe("nearestOf", () => {
  it.each([
    ["scrapMs", "scrapeMs"],
    ["modle", "model"],
    ["POLICY", "policy"],
    ["x", null],
    ["somethingElse", null],
    ["a".repeat(100_000), null],
  ])("%s -> %s", (key, nearest) => {
    expect(nearestOf(key, ["scrapeMs", "model", "policy"])).toBe(nearest);
  });
});

describe("pathText", () => {
  it("writes keys with dots and positions in brackets", () => {
    expect(pathText(["events", "nats", "servers", 0])).toBe("events.nats.servers[0]");
    expect(pathText([])).toBe("");
  });
});

describe("shortened", () => {
  it("keeps short text and cuts long text at 80 characters", () => {
    expect(shortened("a\nb")).toBe("a b");
    expect(shortened("x".repeat(81))).toBe(`${"x".repeat(77)}...`);
  });
});
