/**
 * Polls TensorRT-LLM for its KV events: `POST /kv_cache_events` answers all that it has buffered, and
 * forgets it. There may be one consumer only, and what an answer loses on its way is lost: it shows as a
 * gap in the event ids.
 */

import http from "node:http";
import https from "node:https";
import { readBounded } from "../core/bounded-body.ts";
import { type Clock, sleep } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { PAYLOAD_BYTES_MAX } from "./event-payload.ts";

/** From the end of one poll to the next, ms. */
const POLL_MS = 100;
/** The same after a failure; it doubles with each one in a row, up to the maximum. */
const RETRY_MS = 200;
const RETRY_MS_MAX = 5000;
/** Longest wait for a whole answer, ms: engines wait some time for events to come. */
const POLL_ANSWER_MS_MAX = 5000;

/**
 * - unreachable: no connection, or it broke
 * - timeout: no whole answer within POLL_ANSWER_MS_MAX
 * - status: another status than 200
 * - too-large: an answer over PAYLOAD_BYTES_MAX
 */
export type PollFailure = "unreachable" | "timeout" | "status" | "too-large";
export type PollOutcome = Result<Uint8Array, PollFailure>;

export interface TrtllmPollDeps {
  readonly clock: Clock;
  /** Nothing is drained before it resolves. */
  readonly ready: Promise<void>;
  readonly onPoll: (outcome: PollOutcome) => void;
  readonly signal: AbortSignal;
}

/** Polls until the signal aborts; never rejects. */
export async function pollTrtllmEvents(url: string, deps: TrtllmPollDeps): Promise<void> {
  const { clock, ready, onPoll, signal } = deps;
  const aborted = new Promise<void>((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await Promise.race([ready, aborted]);
  const library = url.startsWith("https:") ? https : http;
  const agent = new library.Agent({ keepAlive: true, maxSockets: 1, maxFreeSockets: 1 });
  let failures = 0;
  while (!signal.aborted) {
    const outcome = await poll(url, { clock, signal, agent });
    // An answer that came is handed over even at the end: the engine has it no more.
    if (outcome.ok || !signal.aborted) onPoll(outcome);
    failures = outcome.ok ? 0 : failures + 1;
    const retryMs = Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** Math.min(failures - 1, 16));
    await sleep(clock, outcome.ok ? POLL_MS : retryMs, signal);
  }
  agent.destroy();
}

interface PollContext {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly agent: http.Agent | https.Agent;
}

async function poll(url: string, { clock, signal, agent }: PollContext): Promise<PollOutcome> {
  const ended = new AbortController();
  const end = (): void => ended.abort();
  let isTimeout = false;
  const cancelTimer = clock.after(POLL_ANSWER_MS_MAX, () => {
    isTimeout = true;
    end();
  });
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  try {
    return await post(url, { agent, signal: ended.signal });
  } catch (reason) {
    return isTimeout
      ? refused("timeout", `no whole answer within ${POLL_ANSWER_MS_MAX} ms`)
      : refused("unreachable", messageOf(reason));
  } finally {
    cancelTimer();
    signal.removeEventListener("abort", end);
  }
}

/** Rejects when there is no connection, when it breaks, and on abort. */
async function post(
  url: string,
  options: { readonly agent: http.Agent | https.Agent; readonly signal: AbortSignal },
): Promise<PollOutcome> {
  const library = url.startsWith("https:") ? https : http;
  const headers = { accept: "application/json", "content-length": "0" };
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    const sent = library.request(url, { ...options, method: "POST", headers });
    sent.once("response", resolve);
    // Stays for the whole life of the request: a late error has a listener.
    sent.on("error", reject);
    sent.end();
  });
  if (response.statusCode !== 200) {
    response.destroy();
    return refused("status", `status ${response.statusCode}`);
  }
  const body = await readBounded(response, PAYLOAD_BYTES_MAX);
  return body === null ? refused("too-large", `over ${PAYLOAD_BYTES_MAX} bytes`) : ok(body);
}
