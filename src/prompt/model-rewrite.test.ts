import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Rename, renameOf, rewriteModel } from "./model-rewrite.ts";

const REWRITES = new Map([["chat", "meta-llama/Llama-3.1-8B-Instruct"]]);
const NO_HEADERS = new Map<string, string>();
const RENAME = renameOf(NO_HEADERS, REWRITES) ?? ((): null => null);
const rewritten = (text: string, rename: Rename = RENAME): string | null =>
  rewriteModel(Buffer.from(text), rename)?.toString() ?? null;

describe("the rewrite of a model's name", () => {
  it("changes the name and no other byte", () => {
    const before = '{ "prompt":"say \\"model\\":\\"chat\\"",\n "model" : "chat", "n": 1.0 }';
    const after = before.replace(': "chat"', ': "meta-llama/Llama-3.1-8B-Instruct"');
    expect(rewritten(before)).toBe(after);
  });

  it("leaves other names, and names that are not the request's own", () => {
    expect(rewritten('{"model":"other"}')).toBe(null);
    expect(rewritten('{"metadata":{"model":"chat"},"list":["model","chat"]}')).toBe(null);
    expect(rewritten('{"model":["chat"]}')).toBe(null);
    expect(rewritten('{"key":"model"}')).toBe(null);
    expect(rewritten('[{"model":"chat"}]')).toBe(null);
  });

  it("leaves bodies that are no object, or go on behind it", () => {
    const part = '{"model":"chat"}';
    expect(rewritten(`--form\r\n\r\n${part}\r\n--form--`)).toBe(null);
    expect(rewritten(`{"model":"other"}\n${part}`)).toBe(null);
  });

  it.each(["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"])(
    "is asked for by %s, whatever the configuration says",
    (header) => {
      const rename = renameOf(new Map([[header, "adapter"]]), REWRITES) ?? RENAME;
      expect(rewritten('{"model":"chat"}', rename)).toBe('{"model":"adapter"}');
      expect(rewritten('{"model":"other"}', rename)).toBe('{"model":"adapter"}');
      expect(rewritten('{"model":"adapter"}', rename)).toBe(null);
      expect(rewritten('{"prompt":"x"}', rename)).toBe(null);
      expect(renameOf(new Map([[header, ""]]), new Map())).toBe(null);
    },
  );

  it("reads a name as JSON does", () => {
    expect(rewritten('{"model":"\\u0063hat"}')).toBe(
      '{"model":"meta-llama/Llama-3.1-8B-Instruct"}',
    );
  });

  it("reads the key as JSON does, and what a byte order mark is before", () => {
    const name = JSON.stringify(REWRITES.get("chat"));
    expect(rewritten('{"\\u006do\\u0064el":"chat"}')).toBe(`{"\\u006do\\u0064el":${name}}`);
    expect(rewritten('\ufeff {"model":"chat"}')).toBe(`\ufeff {"model":${name}}`);
    expect(rewritten('{"mode\\n":"chat","mode\\x":"chat"}')).toBe(null);
  });

  it("gives what a change of the parsed body gives", () => {
    const valueArb = fc.jsonValue({ maxDepth: 3 });
    const entryArb = fc.tuple(fc.oneof(fc.constant("model"), fc.string()), valueArb);
    fc.assert(
      fc.property(fc.array(entryArb), fc.boolean(), (entries, isChat) => {
        const body: Record<string, unknown> = Object.fromEntries(entries);
        if (isChat) body["model"] = "chat";
        const text = JSON.stringify(body, null, entries.length % 3);
        if (body["model"] !== "chat") expect(rewritten(text)).toBe(null);
        else {
          expect(JSON.parse(rewritten(text) ?? "null")).toEqual({
            ...JSON.parse(text),
            model: REWRITES.get("chat"),
          });
        }
      }),
    );
  });

  it("throws at no bytes", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'{}[]":\\, model'), maxLength: 60 }),
        (text) => {
          rewriteModel(Buffer.from(text), RENAME);
        },
      ),
    );
  });
});
