import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { rewriteModel } from "./model-rewrite.ts";

const REWRITES = new Map([["chat", "meta-llama/Llama-3.1-8B-Instruct"]]);
const rewritten = (text: string): string | null =>
  rewriteModel(Buffer.from(text), REWRITES)?.toString() ?? null;

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

  it("reads a name as JSON does", () => {
    expect(rewritten('{"model":"\\u0063hat"}')).toBe(
      '{"model":"meta-llama/Llama-3.1-8B-Instruct"}',
    );
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
          rewriteModel(Buffer.from(text), REWRITES);
        },
      ),
    );
  });
});
