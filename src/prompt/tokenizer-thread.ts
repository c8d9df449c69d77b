/** The thread that tokenises, and renders long chats: one message for each job. Runs in a worker. */
import { parentPort, workerData } from "node:worker_threads";
import { Tokenizer } from "@huggingface/tokenizers";
import { messageOf } from "../core/errors.ts";
import { nodeClock } from "../core/node-clock.ts";
import { type Result, refused } from "../core/result.ts";
import { rendered, templateOf } from "./chat-rendering.ts";
import type { ChatTemplate, RenderedChat, TemplateRefusal } from "./chat-template.ts";
import type { EngineRules } from "./engine-rules.ts";
import { readTokenizerConfig, readTokenizerJson } from "./file-tokenizer.ts";
import { readPrompt } from "./request-body.ts";
import { type AddedToken, addedTokensOf, cutObstacle } from "./text-cuts.ts";
import { type TextDoubt, textDoubts } from "./text-doubts.ts";

/** What the main thread has to know of the tokenizer. */
export interface TokenizerFacts {
  readonly added: readonly AddedToken[];
  /** Why texts must not be cut at added tokens; null: they may. */
  readonly cutObstacle: string | null;
  readonly doubts: readonly TextDoubt[];
  /** Ids put before and behind a text whose special tokens are added. */
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** What a thread is started with. */
export interface ThreadSetup {
  readonly folder: string;
  readonly rules: EngineRules;
}

export type ThreadTask =
  | { readonly kind: "tokenize"; readonly texts: readonly string[] }
  /** Path and bytes of a request for a chat. */
  | { readonly kind: "render"; readonly route: string; readonly body: Uint8Array };

export interface ThreadJob {
  readonly id: number;
  readonly task: ThreadTask;
}

export type ThreadValue =
  | { readonly kind: "tokens"; readonly tokens: readonly Uint32Array[] }
  | { readonly kind: "rendered"; readonly rendered: Result<RenderedChat, TemplateRefusal> };

export type ThreadAnswer =
  | { readonly kind: "ready"; readonly facts: TokenizerFacts }
  | { readonly kind: "unready"; readonly message: string }
  | { readonly kind: "done"; readonly id: number; readonly value: ThreadValue }
  | { readonly kind: "failed"; readonly id: number; readonly message: string };

function serve({ folder, rules }: ThreadSetup, answer: (message: ThreadAnswer) => void): void {
  const json = readTokenizerJson(folder);
  const config = readTokenizerConfig(folder);
  const tokenizer = new Tokenizer(json, config);
  const template = templateOf({ folder, config }, { rules, clock: nodeClock });
  const idsOf = (text: string, isSpecialAdded: boolean): number[] =>
    tokenizer.encode(text, { add_special_tokens: isSpecialAdded }).ids;
  const done = (task: ThreadTask): ThreadValue => {
    if (task.kind === "render") return { kind: "rendered", rendered: renderedBody(template, task) };
    const tokens = task.texts.map((text) => Uint32Array.from(idsOf(text, false)));
    return { kind: "tokens", tokens };
  };
  parentPort?.on("message", ({ id, task }: ThreadJob) => {
    try {
      answer({ kind: "done", id, value: done(task) });
    } catch (error) {
      answer({ kind: "failed", id, message: messageOf(error) });
    }
  });
  const added = addedTokensOf(json);
  answer({
    kind: "ready",
    facts: {
      ...{ added, cutObstacle: cutObstacle(json, config), doubts: textDoubts(json) },
      ...specials(idsOf),
    },
  });
}

function renderedBody(
  template: ChatTemplate,
  { route, body }: Extract<ThreadTask, { kind: "render" }>,
): Result<RenderedChat, TemplateRefusal> {
  const read = readPrompt(route, body);
  return read.ok && read.value.prompt.kind === "chat"
    ? rendered(template, read.value.prompt.chat, body)
    : refused("template-unsupported", "no chat");
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
    serve(workerData as ThreadSetup, answer);
  } catch (error) {
    answer({ kind: "unready", message: messageOf(error) });
  }
}
