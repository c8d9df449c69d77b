/**
 * Request ids that are unique among the open streams.
 *
 * A client chooses its `x-request-id`, so two requests in flight can carry the same one; the
 * second gets a suffix, because the ledger of requests in flight is keyed by this id.
 */
import type { Random } from "../core/random.ts";

/** Longest id taken over from a client, in characters. */
const CLIENT_ID_CHARS_MAX = 128;

export interface ClaimedId {
  readonly requestId: string;
  /** Whether it differs from what the client sent. */
  readonly isOwn: boolean;
}

export class RequestIds {
  readonly #random: Random;
  readonly #open = new Set<string>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** `release` must follow. */
  claim(clientId: string | undefined): ClaimedId {
    const isUsable =
      clientId !== undefined &&
      clientId.length <= CLIENT_ID_CHARS_MAX &&
      /^[\x21-\x7e]+$/.test(clientId);
    if (isUsable && !this.#open.has(clientId)) {
      this.#open.add(clientId);
      return { requestId: clientId, isOwn: false };
    }
    const prefix = isUsable ? `${clientId}.` : "kva-";
    let requestId = prefix + this.#suffix();
    while (this.#open.has(requestId)) requestId = prefix + this.#suffix();
    this.#open.add(requestId);
    return { requestId, isOwn: true };
  }

  release(requestId: string): void {
    this.#open.delete(requestId);
  }

  /** 64 random bits in hexadecimal. */
  #suffix(): string {
    const word = (): string =>
      Math.floor(this.#random.next() * 4_294_967_296)
        .toString(16)
        .padStart(8, "0");
    return word() + word();
  }
}
