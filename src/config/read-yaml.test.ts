import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { problemLine } from "./problems.ts";
import { PROBLEMS_MAX, readYaml } from "./read-yaml.ts";

const schema = z.strictObject({
  scrapeMs: z.int().min(50).max(60_000).default(1000),
  policy: z.enum(["cost", "round-robin"]).default("cost"),
  path: z.string().min(1).nullable().default(null),
  endpoints: z
    .array(
      z.strictObject({
        name: z.string(),
        listen: z
          .string()
          .refine((text) => text.includes(":"), { error: "host:port" })
          .optional(),
      }),
    )
    .max(2)
    .default([]),
});

/** The lines for a text, or [] when it is accepted. */
function linesOf(text: string): string[] {
  const read = readYaml({ file: "f.yaml", text, bytesMax: 10_000 }, schema);
  return read.ok ? [] : read.problems.map(problemLine);
}

describe("readYaml", () => {
  it("fills in defaults", () => {
    const read = readYaml({ file: "f.yaml", text: "scrapeMs: 60\n", bytesMax: 100 }, schema);
    expect(read).toEqual({
      ok: true,
      value: { scrapeMs: 60, policy: "cost", path: null, endpoints: [] },
    });
  });

  it("names file, line, column, path, value and what is expected", () => {
    expect(linesOf("policy: cost\nscrapeMs: 5\n")).toEqual([
      "f.yaml:2:11: scrapeMs: got 5, expected integer from 50 to 60000",
    ]);
    expect(linesOf("endpoints:\n  - {name: 7}\n")).toEqual([
      "f.yaml:2:12: endpoints[0].name: got 7, expected string",
    ]);
    expect(linesOf("policy: best\n")).toEqual([
      'f.yaml:1:9: policy: got "best", expected one of "cost", "round-robin"',
    ]);
    expect(linesOf("scrapeMs: -.inf\n")).toEqual([
      "f.yaml:1:11: scrapeMs: got -Infinity, expected integer from 50 to 60000",
    ]);
    expect(linesOf('path: ""\n')).toEqual([
      'f.yaml:1:7: path: got "", expected non-empty string or null',
    ]);
    expect(linesOf("endpoints: [{name: a, listen: b}]\n")).toEqual([
      'f.yaml:1:31: endpoints[0].listen: got "b", expected host:port',
    ]);
  });

  it("puts a missing key where its mapping begins", () => {
    expect(linesOf("endpoints:\n  - listen: a:1\n")).toEqual([
      "f.yaml:2:5: endpoints[0].name: got nothing, expected string",
    ]);
  });

  it("names the nearest known key of an unknown one", () => {
    expect(linesOf("scrapeMS: 60\npolcy: cost\nzzzzzzzz: 1\n")).toEqual([
      'f.yaml:1:1: scrapeMS: got the unknown key "scrapeMS", expected one of the keys scrapeMs, policy, path, endpoints (did you mean "scrapeMs"?)',
      'f.yaml:2:1: polcy: got the unknown key "polcy", expected one of the keys scrapeMs, policy, path, endpoints (did you mean "policy"?)',
      'f.yaml:3:1: zzzzzzzz: got the unknown key "zzzzzzzz", expected one of the keys scrapeMs, policy, path, endpoints',
    ]);
  });

  it("tells all problems at once, in the order of the file", () => {
    const lines = linesOf("wrong: 1\npolicy: 1\nscrapeMs: x\n");
    expect(lines.map((line) => line.split(":")[1])).toEqual(["1", "2", "3"]);
  });

  it.each([
    ["a text that is no YAML", "a: [1\n", "f.yaml:2:1: got other text, expected valid YAML ("],
    [
      "a key that occurs twice",
      "a: 1\na: 2\n",
      "f.yaml:2:1: got other text, expected valid YAML (",
    ],
    ["an unknown tag", "path: !secret x\n", "f.yaml:1:7: got other text, expected valid YAML ("],
    ["two documents", "path: a\n---\npath: b\n", "f.yaml:2:1: got other text"],
    ["an empty file", "", "f.yaml: got null, expected mapping"],
    ["another top level", "- 1\n", "f.yaml:1:1: got [1], expected mapping"],
  ])("refuses %s", (_, text, start) => {
    const [first] = linesOf(text);
    expect(first?.slice(0, start.length)).toBe(start);
  });

  it("refuses a text over the limit", () => {
    expect(linesOf(`# ${"x".repeat(10_000)}`)).toEqual([
      "f.yaml: got 10002 bytes, expected at most 10000 bytes",
    ]);
  });

  it("refuses aliases that multiply", () => {
    const rows = [..."bcdefgh"].map((name, index) => {
      const before = String.fromCharCode("a".charCodeAt(0) + index);
      return `${name}: &${name} [${Array(9).fill(`*${before}`).join(",")}]`;
    });
    expect(linesOf(["a: &a [x, x]", ...rows].join("\n"))).toEqual([
      expect.stringContaining("Excessive alias count"),
    ]);
  });

  it("refuses nesting deeper than the stack, in few lines", () => {
    const lines = linesOf(`path: ${"[".repeat(9900)}`);
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.length).toBeLessThanOrEqual(PROBLEMS_MAX);
  });

  it("shortens long values and keeps a message on one line", () => {
    const [line] = linesOf(`policy: "${"a\\n".repeat(500)}"\n`);
    expect(line).toMatch(/\.\.\., expected/);
    expect(line?.length).toBeLessThan(200);
    expect(line).not.toContain("\n");
  });

  it("never throws", () => {
    const piece = fc.constantFrom(
      ..."{}[]:,-?!&*|>'\"#%@`\n\t ".split(""),
      "scrapeMs",
      "endpoints",
      "name",
      "__proto__",
      "<<",
      "1e999",
      "null",
      "  ",
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, fc.string()), { maxLength: 40 }), (pieces) => {
        for (const line of linesOf(pieces.join(""))) expect(line).not.toContain("\n");
      }),
    );
  });
});
