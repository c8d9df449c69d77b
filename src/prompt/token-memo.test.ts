import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { memoKey, TokenMemo } from "./token-memo.ts";

const TEXT_CHARS = 1_000_000;

it("does not keep the texts that its pieces were cut from", () => {
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
  const memo = new TokenMemo(1_000_000);
  collect();
  const before = process.memoryUsage().heapUsed;
  for (let n = 0; n < 64; n += 1) {
    const text = `${n} a short piece `.padEnd(TEXT_CHARS, ".");
    for (let chars = 1; chars <= 40; chars += 3) {
      memo.set(memoKey(text.slice(2, 2 + chars)), Uint32Array.of(n));
      memo.set(memoKey(text.slice(0, chars)), Uint32Array.of(n));
    }
  }
  collect();
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(4 * TEXT_CHARS);
  expect(memo.get(memoKey("63 a"))).toEqual(Uint32Array.of(63));
});
