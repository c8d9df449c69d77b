import { afterEach, expect, it } from "vitest";
import type { ToStalling } from "../../test/harness/stalling-thread.ts";
import { waitUntil } from "../../test/harness/wait-until.ts";
import type { Clock } from "../core/clock.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { KeptThread } from "./kept-thread.ts";

/** Seconds of a thread's life pass a hundred times as fast. */
const clock: Clock = { ...nodeClock, after: (ms, callback) => nodeClock.after(ms / 20, callback) };
const question = (id: number): ToStalling => ({ kind: "ask", id });

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

it("notices a thread that hangs, cuts it where it is told to, and begins another", async () => {
  const begun: string[] = [];
  const failures: number[] = [];
  const answering: boolean[] = [];
  const kept: KeptThread<ToStalling, { kind: string }> = new KeptThread({
    ...{ clock, log: silentLog, question, data: (): object => ({}) },
    code: new URL("../../test/harness/stalling-thread", import.meta.url),
    onTold: ({ kind }): void => void begun.push(kind),
    onFailed: ({ crashes }): void => void failures.push(crashes),
    onAnswering: (isAnswering): void => {
      answering.push(isAnswering);
      if (!isAnswering && begun.length > 0) kept.cut();
    },
  });
  stops.push(() => kept.end({ kind: "stop" }, 60_000));
  await waitUntil("it has begun", () => begun.length === 1);
  expect(await kept.ask(question, 60_000)).toBe(7);
  await waitUntil("it is seen to answer", () => answering.at(-1) === true);
  kept.say({ kind: "hang" });
  await waitUntil("it is cut", () => failures.length === 1, 15_000);
  expect(answering).toContain(false);
  await waitUntil("another has begun", () => begun.length === 2, 15_000);
  expect(await kept.ask(question, 60_000)).toBe(7);
});
