import { describe, expect, it } from "vitest";
import { comparisonTable, type PhaseResult, verdict } from "./comparison.ts";

function phase(fields: {
  meanMs: number;
  computed: readonly number[];
  failed?: number;
}): PhaseResult {
  const { meanMs, computed, failed = 0 } = fields;
  return {
    done: 100,
    failed,
    seconds: 40,
    ttftMs: { count: 100, mean: meanMs, p50: meanMs / 2, p99: meanMs * 3 },
    promptTokens: 1000,
    cachedTokens: 1000 - computed.reduce((sum, tokens) => sum + tokens, 0),
    computedTokens: computed,
  };
}

describe("comparison", () => {
  const slow = phase({ meanMs: 1200, computed: [300, 300] });
  const quick = phase({ meanMs: 300, computed: [200, 100] });

  it("puts both ways side by side with their ratio", () => {
    expect(comparisonTable(slow, quick)).toMatchInlineSnapshot(`
      [
        "  the same work, sent twice        round robin       kvatlas",
        "  time to first token, mean             1.20 s        300 ms   4.0 times less",
        "    half of the requests within         600 ms        150 ms   4.0 times less",
        "    99 % of the requests within         3.60 s        900 ms   4.0 times less",
        "  prompt tokens from a cache              40 %          70 %   ",
        "  prompt tokens computed                   600           300   2.0 times less",
        "  busiest pod against the mean          1.00 x        1.33 x   ",
        "  all answered after                   40.00 s       40.00 s   about the same",
        "  requests answered                        100           100   ",
        "  requests failed                            0             0   ",
      ]
    `);
  });

  it("says what the numbers say", () => {
    expect(verdict(slow, quick)).toContain("4.0 times as soon on average, because the engines");
    expect(verdict(slow, phase({ meanMs: 600, computed: [300, 300] }))).toContain(
      "so that came from spreading the load",
    );
    expect(verdict(slow, phase({ meanMs: 1190, computed: [300, 300] }))).toContain(
      "no clear difference",
    );
    expect(verdict(quick, slow)).toContain("kvatlas was NOT better here");
    expect(verdict(slow, phase({ meanMs: 1, computed: [1], failed: 1 }))).toContain(
      "Requests failed",
    );
  });

  it("shows a run without answers", () => {
    const none = phase({ meanMs: 0, computed: [] });
    expect(comparisonTable(none, none).join("\n")).not.toContain("NaN");
    expect(verdict(none, none)).not.toContain("NaN");
  });
});
