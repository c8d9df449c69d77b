/** Waiting work by prefix and endpoint: how much the requests that share a prefix are still waiting for. */
import type { EndpointId } from "../core/ids.ts";

/** Waiting requests of one prefix at one endpoint. */
export interface PrefixWork {
  readonly requests: number;
  /** Sum of their estimated work, seconds. */
  readonly workSeconds: number;
}

interface PrefixedRequest {
  readonly prefixKeys: readonly bigint[];
  readonly endpointId: EndpointId;
  readonly workSeconds: number;
}

const NONE: ReadonlyMap<EndpointId, PrefixWork> = new Map();

export class PrefixWorks {
  readonly #prefixes = new Map<bigint, Map<EndpointId, PrefixWork>>();

  /** A live map that the caller only reads. */
  of(prefixKey: bigint): ReadonlyMap<EndpointId, PrefixWork> {
    return this.#prefixes.get(prefixKey) ?? NONE;
  }

  /** A request begins to wait (1), or waits no more (-1). */
  add({ prefixKeys, endpointId, workSeconds }: PrefixedRequest, sign: 1 | -1): void {
    for (const prefixKey of prefixKeys) {
      const byEndpoint = this.#prefixes.get(prefixKey) ?? new Map<EndpointId, PrefixWork>();
      const before = byEndpoint.get(endpointId) ?? { requests: 0, workSeconds: 0 };
      const requests = before.requests + sign;
      if (requests === 0) byEndpoint.delete(endpointId);
      else {
        const seconds = Math.max(0, before.workSeconds + sign * workSeconds);
        byEndpoint.set(endpointId, { requests, workSeconds: seconds });
      }
      if (byEndpoint.size === 0) this.#prefixes.delete(prefixKey);
      else this.#prefixes.set(prefixKey, byEndpoint);
    }
  }
}
