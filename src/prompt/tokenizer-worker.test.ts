import { afterEach, expect, it } from "vitest";
import { tokenizerFolder } from "../../test/harness/tokenizers.ts";
import type { Clock } from "../core/clock.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { engineRules } from "./engine-rules.ts";
import { TokenizerWorker } from "./tokenizer-worker.ts";

/** A clock whose timers end when the test says so. */
class HeldClock implements Clock {
  readonly #timers: (() => void)[] = [];

  nowMs(): number {
    return nodeClock.nowMs();
  }

  wallMs(): number {
    return nodeClock.wallMs();
  }

  after(_: number, callback: () => void): () => void {
    this.#timers.push(callback);
    return () => {
      this.#timers.splice(this.#timers.indexOf(callback), 1);
    };
  }

  end(): void {
    for (const callback of this.#timers.splice(0)) callback();
  }
}

const rules = engineRules({ engine: "vllm", engineVersion: null });
let worker: TokenizerWorker | null = null;
afterEach(() => worker?.stop());

it("gives up a text that takes too long, starts its thread anew and goes on", async () => {
  const clock = new HeldClock();
  const folder = tokenizerFolder("qwen2_5");
  ({ worker } = await TokenizerWorker.start(folder, { clock, log: silentLog, rules }));
  const long = worker.tokenize(["a b c ".repeat(500_000)]);
  const waiting = worker.tokenize(["hello"]);
  clock.end();
  expect(await long).toMatchObject({ ok: false, reason: "tokenizer-failed" });
  expect(await waiting).toEqual({ ok: true, value: [Uint32Array.from([14_990])] });
});

it("takes the shortest text first of those that wait", async () => {
  const folder = tokenizerFolder("qwen2_5");
  const ports = { clock: nodeClock, log: silentLog, rules };
  ({ worker } = await TokenizerWorker.start(folder, ports));
  const order: string[] = [];
  const ask = (name: string, text: string): Promise<unknown> =>
    (worker?.tokenize([text]) ?? Promise.resolve()).then(() => order.push(name));
  await Promise.all([ask("first", "x"), ask("long", "word ".repeat(2000)), ask("short", "y")]);
  expect(order).toEqual(["first", "short", "long"]);
});
