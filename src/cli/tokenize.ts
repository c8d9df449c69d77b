/** `kvatlas tokenize`: one prompt, or canary prompts, tokenised here and at an engine. */
import { KvError } from "../core/errors.ts";
import type { EndpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { promptConfigSchema } from "../prompt/config.ts";
import { type Engine, engineRules } from "../prompt/engine-rules.ts";
import { checkParity, compareTokens } from "../prompt/parity.ts";
import type { PromptText, TokenizeRequest } from "../prompt/prompt-tokenizer.ts";
import { readPrompt } from "../prompt/request-body.ts";
import { startTokenizer } from "../prompt/tokenizer-choice.ts";
import { printLine } from "./print.ts";
import { engineOf, pathOf, readBody } from "./prompt.ts";

/** As commander hands them over. */
export interface TokenizeFlags {
  readonly model: string;
  readonly tokenizer: string;
  readonly engine: string;
  readonly path?: string;
  readonly engineKind?: Engine;
  readonly engineVersion?: string;
}

const COMPARE_MS_MAX = 30_000;

/** Ends the process with 1 where the token ids differ or could not be compared. */
export async function compareWithEngine(file: string | null, flags: TokenizeFlags): Promise<void> {
  const endpoint = engineOf(flags.engine);
  const { tokenizer: tokenizerPath, engineKind: engine, engineVersion } = flags;
  const config = promptConfigSchema.parse({
    ...{ tokenize: "local", tokenizerPath, engine, engineVersion },
  });
  const request = file === null ? null : requestOf(file, flags);
  // Without an engine to fall back to: it would be compared with itself.
  const ports = { clock: nodeClock, log: silentLog, engines: (): EndpointId[] => [] };
  const { tokenizer, detail, stop } = await startTokenizer(config, ports);
  try {
    if (tokenizer === null) return;
    const signal = AbortSignal.timeout(COMPARE_MS_MAX);
    const deps = { endpoint, tokenizer, rules: engineRules(config) };
    const result =
      request === null
        ? await checkParity(deps, flags.model, signal)
        : await compareTokens(deps, request, signal);
    await printLine(JSON.stringify({ tokenizer: detail, engine: endpoint, ...result }));
    const outcome = "kind" in result ? result.kind : result.state;
    if (outcome !== "equal") process.exitCode = 1;
  } finally {
    await stop();
  }
}

function requestOf(file: string, flags: TokenizeFlags): TokenizeRequest {
  const body = readBody(file);
  const read = readPrompt(flags.path ?? pathOf(body), body);
  if (!read.ok) throw new KvError("ERR_PROMPT_INVALID", `${file}: ${read.reason}: ${read.detail}`);
  const { prompt, route } = read.value;
  const [text] = prompt.kind === "text" ? prompt.texts : [];
  const isMixed = prompt.kind === "chat" && !prompt.chat.isTextOnly;
  if (isMixed || prompt.kind === "tokens" || (prompt.kind === "text" && prompt.texts.length > 1)) {
    throw new KvError("ERR_PROMPT_INVALID", `${file}: one text, or one chat of text, is compared`);
  }
  const one: PromptText =
    prompt.kind === "chat"
      ? prompt
      : { kind: "text", text: text ?? "", isSpecialAdded: prompt.isSpecialAdded };
  return { model: flags.model, prompt: one, route, body };
}
