import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { makeDocs } from "../scripts/write-docs.ts";

describe("generated pages", () => {
  it.each([...makeDocs().keys()])("%s says what the code says", (path) => {
    let page = "";
    try {
      page = readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
    } catch {
      // An absent page differs like any other.
    }
    expect(page, `${path} is out of date: run \`npm run docs\``).toBe(makeDocs().get(path));
  });
});
