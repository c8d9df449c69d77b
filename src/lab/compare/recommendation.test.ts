import { describe, expect, it } from "vitest";
import type { ComparisonRow } from "./compare-policies.ts";
import { comparisonTable } from "./comparison-table.ts";
import { recommend } from "./recommendation.ts";

function row(
  policy: string,
  ttftMeanSeconds: number,
  rest: Partial<ComparisonRow> = {},
): ComparisonRow {
  return {
    ...{ policy, ttftMeanSeconds, requests: 100, lost: 0, ttftP50Seconds: 1, ttftP99Seconds: 2 },
    ...{ hitRate: 0.5, maxOverMeanLoad: 1.1, goodput: 0.9, heldRequests: 0, refused: 0 },
    ...{ brokenOff: 0, preemptions: 0, seconds: 10, ...rest },
  };
}

describe("recommendation", () => {
  it("is the policy with the soonest first token, with its figures", () => {
    const { policy, text } = recommend([row("a", 2, { goodput: 0.7 }), row("b", 1), row("c", 3)]);
    expect(policy).toBe("b");
    expect(text).toContain("2.00 times as soon as with a, the next best; 90.0 %");
    expect(text).toContain("with it 70.0 %");
  });

  it("decides by goodput between equals", () => {
    const rows = [row("a", 1, { goodput: 0.8 }), row("b", 1.02, { goodput: 0.9 })];
    expect(recommend(rows)).toMatchObject({ policy: "b", text: expect.stringContaining("80.0 %") });
  });

  it("is never the reference, and never what loses requests", () => {
    expect(recommend([row("oracle", 0.1), row("a", 1, { lost: 3 }), row("b", 9)]).policy).toBe("b");
    expect(recommend([row("oracle", 0.1), row("a", 1, { lost: 1 })])).toEqual({
      policy: null,
      text: "none: every policy lost requests",
    });
  });
});

it("the table has a row for each policy, under its head", () => {
  const [head, first] = comparisonTable([row("a", 1.2345)]);
  expect(head?.slice(0, 2)).toEqual(["POLICY", "MEAN s"]);
  expect(first?.slice(0, 2)).toEqual(["a", "1.234"]);
  expect(first?.length).toBe(head?.length);
});
