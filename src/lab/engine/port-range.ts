/** Listeners at consecutive ports: rank r of an engine listens at its first port + r. */

/** Places at which a free range is looked for before the last error is told. */
const RANGE_TRIES_MAX = 64;

export interface Listener {
  /** "tcp://host:port" */
  readonly address: string;
  stop(): Promise<void>;
}

/** Binds `count` listeners from `port` on; port 0 finds consecutive ports that are free. */
export async function bindRange<Bound extends Listener>(
  range: { readonly port: number; readonly count: number },
  bind: (port: number, rank: number) => Promise<Bound>,
): Promise<Bound[]> {
  let failure: unknown;
  const triesMax = range.port === 0 ? RANGE_TRIES_MAX : 1;
  for (let tries = 0; tries < triesMax; tries++) {
    const bound: Bound[] = [];
    try {
      const first = await bind(range.port, 0);
      bound.push(first);
      for (let rank = 1; rank < range.count; rank++) {
        bound.push(await bind(portOf(first.address) + rank, rank));
      }
      return bound;
    } catch (reason) {
      failure = reason;
      await Promise.all(bound.map((listener) => listener.stop()));
    }
  }
  throw failure;
}

export function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(":") + 1));
}

/** "tcp://host:port" with the port of a rank. */
export function rankAddress(address: string, rank: number): string {
  const end = address.lastIndexOf(":") + 1;
  return `${address.slice(0, end)}${portOf(address) + rank}`;
}
