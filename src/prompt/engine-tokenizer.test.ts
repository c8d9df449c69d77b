import { expect, it } from "vitest";
import { nodeClock } from "../core/node-clock.ts";
import { engineRules } from "./engine-rules.ts";
import { EngineTokenizer, tokenizeFields } from "./engine-tokenizer.ts";
import { memoKey, TokenMemo } from "./token-memo.ts";

it("does not take for its answer what is remembered of a text that looks like its call", async () => {
  const memo = new TokenMemo(1_000_000);
  const prompt = { kind: "text", text: "", isSpecialAdded: null } as const;
  const request = { model: "m", prompt, route: "", body: new Uint8Array(0) };
  memo.set(memoKey(JSON.stringify(tokenizeFields(request))), Uint32Array.from([9]));
  const deps = {
    rules: engineRules("0.33.0"),
    isRendered: false,
    engines: () => [],
    memo,
    clock: nodeClock,
  };
  const tokenizer = new EngineTokenizer(deps);
  const result = await tokenizer.tokenize(request, new AbortController().signal);
  expect(result).toMatchObject({ ok: false, reason: "no-engine" });
});
