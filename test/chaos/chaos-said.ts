/** A message of an engine of the chaos, and what it held at a time. */
export interface Said {
  readonly life: number;
  readonly seq: number;
  /** Time of the message, ms: unlike that of any other. */
  readonly atMs: number;
  readonly payload: Uint8Array;
}

/** Holdings as text by handle, "key copies". */
export type Holdings = ReadonlyMap<bigint, string>;

/** The router holds, or claims, what is not so. */
export class Divergence extends Error {}

export const STILL_CLOCK = {
  nowMs: (): number => 0,
  wallMs: (): number => 0,
  after: () => (): void => {},
};
