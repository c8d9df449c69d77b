/** The thread that tokenises: texts in, token ids out, one message for each job. Runs in a worker. */
import { parentPort, workerData } from "node:worker_threads";
import { Tokenizer } from "@huggingface/tokenizers";
import { messageOf } from "../core/errors.ts";
import { readTokenizerConfig, readTokenizerJson } from "./file-tokenizer.ts";
import { type AddedToken, addedTokensOf, cutObstacle } from "./text-cuts.ts";

/** What the main thread has to know of the tokenizer. */
export interface TokenizerFacts {
  readonly added: readonly AddedToken[];
  /** Why texts must not be cut at added tokens; null: they may. */
  readonly cutObstacle: string | null;
  /** Ids put before and behind a text whose special tokens are added. */
  readonly before: readonly number[];
  readonly after: readonly number[];
}

export interface ThreadJob {
  readonly id: number;
  readonly texts: readonly string[];
}

export type ThreadAnswer =
  | { readonly kind: "ready"; readonly facts: TokenizerFacts }
  | { readonly kind: "unready"; readonly message: string }
  | { readonly kind: "tokens"; readonly id: number; readonly tokens: readonly Uint32Array[] }
  | { readonly kind: "failed"; readonly id: number; readonly message: string };

function serve(folder: string, answer: (message: ThreadAnswer) => void): void {
  const json = readTokenizerJson(folder);
  const config = readTokenizerConfig(folder);
  const tokenizer = new Tokenizer(json, config);
  const idsOf = (text: string, isSpecialAdded: boolean): number[] =>
    tokenizer.encode(text, { add_special_tokens: isSpecialAdded }).ids;
  parentPort?.on("message", ({ id, texts }: ThreadJob) => {
    try {
      const tokens = texts.map((text) => Uint32Array.from(idsOf(text, false)));
      answer({ kind: "tokens", id, tokens });
    } catch (error) {
      answer({ kind: "failed", id, message: messageOf(error) });
    }
  });
  const added = addedTokensOf(json);
  answer({
    kind: "ready",
    facts: { added, cutObstacle: cutObstacle(json, config), ...specials(idsOf) },
  });
}

/** Found out by tokenising a letter with and without special tokens. */
function specials(
  idsOf: (text: string, isSpecialAdded: boolean) => number[],
): Pick<TokenizerFacts, "before" | "after"> {
  const plain = idsOf("a", false);
  const special = idsOf("a", true);
  const at = special.findIndex((_, from) => plain.every((id, i) => special[from + i] === id));
  if (at === -1) return { before: [], after: [] };
  return { before: special.slice(0, at), after: special.slice(at + plain.length) };
}

const port = parentPort;
if (port !== null) {
  const answer = (message: ThreadAnswer): void => port.postMessage(message);
  try {
    serve(String(workerData), answer);
  } catch (error) {
    answer({ kind: "unready", message: messageOf(error) });
  }
}
