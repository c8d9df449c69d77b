/**
 * A snapshot's parts -> whole holders: of a holder that lacks a part nothing is taken over, because its
 * cursor speaks for all of its rows. Pure.
 */
import { holderName } from "../core/ids.ts";
import type { SnapshotPart } from "./snapshot-codec.ts";

export class SnapshotAssembly {
  /** Parts of one holder, without a gap from the first on. */
  #parts: SnapshotPart[] = [];
  #isBroken = false;

  /** False: parts of a holder were missing. */
  get isWhole(): boolean {
    return !this.#isBroken && this.#parts.length === 0;
  }

  /** Takes the next part; returns all of its holder's with the last of them. */
  add(part: SnapshotPart): readonly SnapshotPart[] | null {
    const [first] = this.#parts;
    const isNext =
      part.number === this.#parts.length && (first === undefined || isOfOne(first, part));
    if (!isNext) {
      this.#isBroken = true;
      this.#parts = [];
      if (part.number > 0) return null;
    }
    this.#parts.push(part);
    if (this.#parts.length < part.parts) return null;
    const whole = this.#parts;
    this.#parts = [];
    return whole;
  }
}

function isOfOne(a: SnapshotPart, b: SnapshotPart): boolean {
  const isPlace = holderName(a.holder) === holderName(b.holder) && a.parts === b.parts;
  return isPlace && a.cursor.epoch === b.cursor.epoch && a.cursor.seq === b.cursor.seq;
}
