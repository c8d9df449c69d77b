import { describe, expect, it } from "vitest";
import { LINE_CHARS_MAX, LINES_MAX, OutputTail } from "./process-output-tail.ts";

describe("OutputTail", () => {
  it("gives whole lines, however the text is cut", () => {
    const lines: string[] = [];
    const tail = new OutputTail((line) => lines.push(line));
    for (const text of ["a", "b\r\nc", "\n\nlast"]) tail.push(text);
    expect(lines).toEqual(["ab", "c", ""]);
    expect(tail.text()).toBe("ab\nc\n\nlast");
  });

  it("keeps a bounded number of bounded lines", () => {
    const tail = new OutputTail(() => {});
    for (let line = 0; line < 1000; line += 1) tail.push(`${line}\n`);
    expect(tail.text().split("\n")).toHaveLength(LINES_MAX);
    expect(tail.text().endsWith("999")).toBe(true);
    const long = new OutputTail(() => {});
    long.push("x".repeat(100_000));
    long.push("x".repeat(100_000));
    expect(long.text()).toHaveLength(LINE_CHARS_MAX);
  });
});
