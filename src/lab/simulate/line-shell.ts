/**
 * A simulated router behind lines of text: one JSON object in, at most one out.
 *
 * What cannot be used is counted and told at the end; only a line that is not JSON, and an `init` that
 * cannot be used, end the session, because what comes after them would have no meaning.
 */
import { messageOf } from "../../core/errors.ts";
import type { CountingRouter } from "./messages.ts";
import { readMessage } from "./read-message.ts";

export type LineOutcome =
  | { readonly kind: "answer"; readonly text: string }
  | { readonly kind: "nothing" }
  | { readonly kind: "end" }
  /** `detail` names the line. */
  | { readonly kind: "failed"; readonly detail: string };

const NOTHING: LineOutcome = { kind: "nothing" };
const NO_POD: LineOutcome = { kind: "answer", text: JSON.stringify({ pod: null }) };

export class LineShell {
  readonly #router: CountingRouter;
  #lines = 0;
  #unknownOps = 0;
  #unknownFields = 0;
  #refusedMessages = 0;

  constructor(router: CountingRouter) {
    this.#router = router;
  }

  line(text: string): LineOutcome {
    this.#lines += 1;
    if (text.trim() === "") return NOTHING;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      return { kind: "failed", detail: `line ${this.#lines}: not JSON: ${messageOf(error)}` };
    }
    const read = readMessage(value);
    if (!read.ok) return this.#refuse(value, read);
    this.#unknownFields += read.value.unknownFields;
    if (read.value.message.op === "end") return { kind: "end" };
    const answer = this.#router.handle(read.value.message);
    return answer === null ? NOTHING : { kind: "answer", text: JSON.stringify(answer) };
  }

  /** What was not used, for people; empty when all was. */
  report(): string {
    const parts = [
      `${this.#unknownOps} unknown ops`,
      `${this.#unknownFields} unknown fields`,
      `${this.#refusedMessages} messages with fields that are not of their form`,
      `${this.#router.ignoredMessages} messages before init or about unknown pods`,
    ].filter((part) => !part.startsWith("0 "));
    return parts.length === 0 ? "" : `ignored: ${parts.join(", ")}`;
  }

  #refuse(
    value: unknown,
    { reason, detail }: { readonly reason: string; readonly detail: string },
  ): LineOutcome {
    if (reason === "unknown-op") {
      this.#unknownOps += 1;
      return NOTHING;
    }
    this.#refusedMessages += 1;
    const op = typeof value === "object" && value !== null && "op" in value ? value.op : null;
    if (op === "init") return { kind: "failed", detail: `line ${this.#lines}: ${detail}` };
    // Whoever asks waits for a line.
    return op === "route" ? NO_POD : NOTHING;
  }
}
