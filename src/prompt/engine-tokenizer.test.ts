import http from "node:http";
import type { AddressInfo } from "node:net";
import { expect, it } from "vitest";
import { waitUntil } from "../../test/harness/wait-until.ts";
import { endpointId } from "../core/ids.ts";
import { nodeClock } from "../core/node-clock.ts";
import { engineRules } from "./engine-rules.ts";
import { CALLS_MAX, EngineTokenizer, tokenizeBody } from "./engine-tokenizer.ts";
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

it("asks no more at once than it may, and asks again when calls have ended", async () => {
  let asked = 0;
  const server = http.createServer((request) => {
    asked += 1;
    request.resume();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const tokenizer = new EngineTokenizer({
    rules: engineRules({ engine: "vllm", engineVersion: "0.33.0" }),
    isRendered: false,
    engines: () => [endpointId(`127.0.0.1:${port}`)],
    memo: new TokenMemo(1_000_000),
    clock: nodeClock,
  });
  const abort = new AbortController();
  const ask = (text: string) => {
    const prompt = { kind: "text", text, isSpecialAdded: null } as const;
    const request = { model: "m", prompt, route: "", body: new Uint8Array(0) };
    return tokenizer.tokenize(request, abort.signal);
  };
  try {
    const calls = Array.from({ length: CALLS_MAX }, (_, position) => ask(`text ${position}`));
    expect(await ask("one more")).toMatchObject({ ok: false, reason: "tokenizer-busy" });
    await waitUntil("the calls to be there", () => asked === CALLS_MAX);
    abort.abort();
    await Promise.all(calls);
    expect(await ask("another")).toMatchObject({ ok: false, reason: "engine-unreachable" });
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
