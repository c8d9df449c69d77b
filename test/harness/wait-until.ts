/** Waits for something outside that has no event to wait on. */
import { sleep } from "../../src/core/clock.ts";
import { nodeClock } from "../../src/core/node-clock.ts";

const POLL_MS = 10;
/** Of what never comes: below a test's own limit, so that what was waited for is named. */
const LIMIT_MS_DEFAULT = 30_000;
const NEVER = new AbortController().signal;

/** Throws after `limitMs`, naming what was waited for. */
export async function waitUntil(
  what: string,
  isTrue: () => boolean | Promise<boolean>,
  limitMs: number = LIMIT_MS_DEFAULT,
): Promise<void> {
  const endMs = nodeClock.nowMs() + limitMs;
  while (!(await isTrue())) {
    if (nodeClock.nowMs() > endMs) throw new Error(`not within ${limitMs} ms: ${what}`);
    await sleep(nodeClock, POLL_MS, NEVER);
  }
}
