/** Asks the router for its metrics. */
import { type RouterNumbers, readRouterNumbers } from "./router-metrics.ts";

const REQUEST_LIMIT_MS = 2000;

/** Null when the router does not answer; a router that has died is noticed elsewhere. */
export async function fetchRouterNumbers(adminAddress: string): Promise<RouterNumbers | null> {
  try {
    const signal = AbortSignal.timeout(REQUEST_LIMIT_MS);
    const answer = await fetch(`http://${adminAddress}/metrics`, { signal });
    return answer.ok ? readRouterNumbers(await answer.text()) : null;
  } catch {
    return null;
  }
}
