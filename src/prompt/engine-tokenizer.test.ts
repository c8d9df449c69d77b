import { expect, it } from "vitest";
import { nodeClock } from "../core/node-clock.ts";
import { engineRules } from "./engine-rules.ts";
import { EngineTokenizer, tokenizeBody } from "./engine-tokenizer.ts";
import { memoKey, TokenMemo } from "./token-memo.ts";

it("does not take for its answer what is remembered of a text that looks like its call", async () => {
  const memo = new TokenMemo(1_000_000);
  const prompt = { kind: "text", text: "", isSpecialAdded: null } as const;
  const request = { model: "m", prompt, route: "", body: new Uint8Array(0) };
  const rules = engineRules({ engine: "vllm", engineVersion: "0.33.0" });
  const body = tokenizeBody(request, rules);
  memo.set(memoKey(body.ok ? body.value : ""), Uint32Array.from([9]));
  const deps = {
    rules,
    isRendered: false,
    engines: () => [],
    memo,
    clock: nodeClock,
  };
  const tokenizer = new EngineTokenizer(deps);
  const result = await tokenizer.tokenize(request, new AbortController().signal);
  expect(result).toMatchObject({ ok: false, reason: "no-engine" });
});
