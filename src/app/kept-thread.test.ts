import { afterEach, expect, it } from "vitest";
import type { ToStalling } from "../../test/harness/stalling-thread.ts";
import { waitUntil } from "../../test/harness/wait-until.ts";
import type { Clock } from "../core/clock.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { KeptThread } from "./kept-thread.ts";

/** What is waited for passes ten times as fast. */
const clock: Clock = { ...nodeClock, after: (ms, callback) => nodeClock.after(ms / 10, callback) };
const question = (id: number): ToStalling => ({ kind: "ask", id });

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

it("notices a thread that hangs, cuts it where it is told to, and begins another", {
  timeout: 60_000,
}, async () => {
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
  const isAnswering = async (): Promise<boolean> => (await kept.ask(question, 5000)) === 7;
  await waitUntil("it answers", isAnswering, 15_000);
  await waitUntil("it is seen to answer", () => answering.at(-1) === true, 15_000);
  const before = failures.length;
  kept.say({ kind: "hang" });
  await waitUntil("it is cut", () => failures.length > before, 15_000);
  expect(answering).toContain(false);
  await waitUntil("another answers", isAnswering, 15_000);
});
