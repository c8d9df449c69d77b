/**
 * Which lower tiers' stores leave out what their blocks' keys need beside the tokens.
 *
 * vLLM tells salts and images with the blocks of the GPU alone. Where a life has told none, there are
 * none to be left out; where it has, a store that tells none may be of any identity. Pure.
 */
import type { BlockStored } from "./kv-event.ts";
import { withoutLora } from "./stored-extras.ts";

export class IdentityRule {
  #areTold = false;

  note({ extraKeys, loraName }: BlockStored): void {
    if (this.#areTold || extraKeys === null) return;
    this.#areTold = extraKeys.some((block) => (withoutLora(block, loraName)?.length ?? 0) > 0);
  }

  /** What was told before is not known. */
  setTold(): void {
    this.#areTold = true;
  }

  /**
   * Whether a store's blocks are found by their handles alone: it has no tokens, or these may not be all
   * that makes a key, or are not needed for one.
   */
  isByHandle(
    { tokens, caveat, handles }: BlockStored,
    isKnown: (handle: bigint) => boolean,
  ): boolean {
    if (tokens.length === 0) return true;
    return caveat === "no-identity" && (this.#areTold || handles.every(isKnown));
  }

  clear(): void {
    this.#areTold = false;
  }
}
