import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readRequestBody } from "./request-body.ts";

const bytes = (body: unknown): Uint8Array => Buffer.from(JSON.stringify(body));
const read = (path: string, body: unknown) => readRequestBody(path, bytes(body));
const refusal = (path: string, body: unknown): string => {
  const result = read(path, body);
  return result.ok ? "accepted" : result.reason;
};

describe("request bodies", () => {
  it("give token ids, alone or as the only prompt of a batch", () => {
    for (const prompt of [[1, 2, 128_000], [[1, 2, 128_000]]]) {
      expect(read("/v1/completions?x=1", { model: "m", prompt, cache_salt: "s" })).toEqual({
        ok: true,
        value: {
          model: "m",
          cacheSalt: "s",
          prompt: { kind: "tokens", tokens: Uint32Array.from([1, 2, 128_000]) },
        },
      });
    }
  });

  it("give text, and of a chat what its template sees", () => {
    expect(read("/v1/completions", { prompt: "a b" })).toMatchObject({
      value: { model: null, cacheSalt: null, prompt: { kind: "text", text: "a b" } },
    });
    const messages = [{ role: "user", content: [{ type: "text", text: "hi" }] }];
    const tools = [{ type: "function" }];
    const chat = { model: "m", messages, tools, temperature: 1, stream: true };
    expect(read("/v1/chat/completions", chat)).toMatchObject({
      value: { prompt: { kind: "chat", fields: { messages, tools } } },
    });
  });

  it("are refused with the reason that is counted", () => {
    expect(refusal("/v1/embeddings", {})).toBe("path-unknown");
    expect(refusal("/v1/completions", [1])).toBe("not-json");
    expect(refusal("/v1/completions", {})).toBe("no-prompt");
    expect(refusal("/v1/completions", { prompt: [] })).toBe("no-prompt");
    expect(refusal("/v1/completions", { prompt: [1, -2] })).toBe("no-prompt");
    expect(refusal("/v1/completions", { prompt: [1, 2.5] })).toBe("no-prompt");
    expect(refusal("/v1/completions", { prompt: ["a", "b"] })).toBe("batch");
    expect(refusal("/v1/chat/completions", { messages: ["a"] })).toBe("no-prompt");
    const image = [{ role: "user", content: [{ type: "image_url", image_url: {} }] }];
    expect(refusal("/v1/chat/completions", { messages: image })).toBe("multimodal");
  });

  it("never quote the prompt when they are not JSON", () => {
    const result = readRequestBody("/v1/completions", Buffer.from('{"prompt": "secret words'));
    expect(result).toMatchObject({ ok: false, reason: "not-json" });
    expect(JSON.stringify(result)).not.toContain("secret");
  });

  it("never make the reader throw", () => {
    const value = fc.jsonValue({ maxDepth: 4 });
    const paths = fc.constantFrom("/v1/completions", "/v1/chat/completions", "/x", "");
    fc.assert(
      fc.property(paths, fc.oneof(fc.uint8Array(), value.map(bytes)), (path, body) => {
        readRequestBody(path, body);
      }),
    );
    const field = fc.record({ prompt: value, messages: fc.array(value), model: value });
    fc.assert(fc.property(paths, field, (path, body) => void read(path, body)));
    const deep = `{"prompt":${"[".repeat(100_000)}`;
    expect(readRequestBody("/v1/completions", Buffer.from(deep)).ok).toBe(false);
  });
});
