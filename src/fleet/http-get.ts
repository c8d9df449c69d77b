/** One bounded HTTP GET: status 200, a body of limited size, within a time limit, or a reason. */

import http from "node:http";
import https from "node:https";
import { readBounded } from "../core/bounded-body.ts";
import type { Clock } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import { ok, type Result, refused } from "../core/result.ts";

/**
 * refused: no connection, or it broke; timeout: no whole answer in time; http: another status
 * than 200; too-large: a body over `bytesMax`.
 */
type HttpGetReason = "refused" | "timeout" | "http" | "too-large";
export type HttpGetResult = Result<string, HttpGetReason>;

export interface HttpGetRequest {
  readonly url: URL;
  readonly agent: http.Agent | https.Agent;
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly bytesMax: number;
  /** Ends the request early, as "refused". */
  readonly signal: AbortSignal;
}

/** Never rejects. */
export async function httpGet(request: HttpGetRequest): Promise<HttpGetResult> {
  const ended = new AbortController();
  const end = (): void => ended.abort();
  let isTimeout = false;
  const cancelTimer = request.clock.after(request.timeoutMs, () => {
    isTimeout = true;
    end();
  });
  request.signal.addEventListener("abort", end, { once: true });
  if (request.signal.aborted) end();
  try {
    return await get(request, ended.signal, "may-retry");
  } catch (reason) {
    return isTimeout
      ? refused("timeout", `no answer within ${request.timeoutMs} ms`)
      : refused("refused", messageOf(reason));
  } finally {
    cancelTimer();
    request.signal.removeEventListener("abort", end);
  }
}

/** Rejects when there is no connection, when it breaks, and on abort. */
async function get(
  request: HttpGetRequest,
  signal: AbortSignal,
  retry: "may-retry" | "last-try",
): Promise<HttpGetResult> {
  const { url, agent, bytesMax } = request;
  const library = url.protocol === "https:" ? https : http;
  const sent = library.get(url, { agent, signal, headers: { accept: "text/plain" } });
  let response: http.IncomingMessage;
  try {
    response = await responseTo(sent);
  } catch (reason) {
    // The peer closed a kept connection just as it was used again: that says nothing about it.
    if (sent.reusedSocket && retry === "may-retry" && !signal.aborted) {
      return get(request, signal, "last-try");
    }
    throw reason;
  }
  if (response.statusCode !== 200) {
    response.destroy();
    return refused("http", `status ${response.statusCode}`);
  }
  const body = await readBounded(response, bytesMax);
  return body === null ? refused("too-large", `over ${bytesMax} bytes`) : ok(body.toString("utf8"));
}

function responseTo(sent: http.ClientRequest): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    sent.once("response", resolve);
    // Stays for the whole life of the request: a late error has a listener, and the body's
    // reader is told of it by the response.
    sent.on("error", reject);
  });
}
