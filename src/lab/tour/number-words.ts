/** Numbers as people read them. */

export function thousands(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** "71 %"; a share of nothing is "-". */
export function percent(part: number, whole: number): string {
  return whole === 0 ? "-" : `${Math.round((100 * part) / whole)} %`;
}

/** "840 ms", "3.21 s". */
export function duration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** A bar of `width` characters; `share` from 0 to 1. */
export function bar(share: number, width: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * width);
  return "#".repeat(full) + ".".repeat(width - full);
}
