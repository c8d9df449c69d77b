/** One generation over HTTP: from the parsed request to the end of its reply or of its client. */
import type { ServerResponse } from "node:http";
import type { Clock } from "../../core/clock.ts";
import { BlockChain } from "./block-chain.ts";
import type { BlockHasher } from "./block-hash.ts";
import type { EngineCore, RequestHandle, SubmitRefusal } from "./engine-core.ts";
import {
  errorJson,
  type ReplyHead,
  replyJson,
  roleChunk,
  STREAM_END,
  tokenChunk,
  type Usage,
  usageChunk,
} from "./openai-reply.ts";
import type { GenerationRequest } from "./openai-request.ts";
import { detokenize } from "./output-words.ts";
import type { TtftHistogram } from "./vllm-metrics.ts";

export interface GenerationDeps {
  readonly clock: Clock;
  readonly core: EngineCore;
  readonly hasher: BlockHasher;
  readonly ttft: TtftHistogram;
}

/** Starts the generation; the reply is written as its steps end. */
export function startGeneration(
  deps: GenerationDeps,
  request: GenerationRequest,
  options: { readonly requestNumber: number; readonly response: ServerResponse },
): void {
  const { response } = options;
  const chain = new BlockChain(deps.hasher, {
    identity: request.identity,
    prompt: request.prompt,
    outputTokensMax: request.outputTokens,
  });
  const head: ReplyHead = {
    kind: request.kind,
    id: `${request.kind === "chat" ? "chatcmpl" : "cmpl"}-lab-${options.requestNumber}`,
    createdSeconds: Math.floor(deps.clock.wallMs() / 1000),
    modelName: request.modelName,
  };
  const startMs = deps.clock.nowMs();
  let tokensMade = 0;
  const writer = request.isStream
    ? streamWriter(head, request, response)
    : wholeWriter(head, request, { response, chain });
  const submitted = deps.core.submit({
    chain,
    outputTokens: request.outputTokens,
    listener: {
      token: (token): void => {
        if (tokensMade === 0) deps.ttft.observe((deps.clock.nowMs() - startMs) / 1000);
        tokensMade += 1;
        writer.token(token, tokensMade);
      },
      finish: (reason): void => {
        if (reason === "length") writer.end(usageOf(request, submitted, tokensMade));
        else response.destroy();
      },
    },
  });
  if (typeof submitted === "string") {
    refuse(response, submitted);
    return;
  }
  response.on("close", () => submitted.abort());
}

interface Writer {
  /** `tokensMade` counts this one. */
  token(token: number, tokensMade: number): void;
  end(usage: Usage): void;
}

function streamWriter(
  head: ReplyHead,
  request: GenerationRequest,
  response: ServerResponse,
): Writer {
  return {
    token: (token, tokensMade): void => {
      if (tokensMade === 1) {
        response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
        if (request.kind === "chat") response.write(roleChunk(head));
      }
      const isLast = tokensMade === request.outputTokens;
      response.write(tokenChunk(head, detokenize([token]), { isLast }));
    },
    end: (usage): void => {
      if (request.isUsageStreamed) response.write(usageChunk(head, usage));
      response.end(STREAM_END);
    },
  };
}

function wholeWriter(
  head: ReplyHead,
  request: GenerationRequest,
  options: { readonly response: ServerResponse; readonly chain: BlockChain },
): Writer {
  return {
    token: (): void => {},
    end: (usage): void => {
      const output = options.chain.tokens(request.prompt.length, options.chain.tokenCount);
      options.response.writeHead(200, { "content-type": "application/json" });
      options.response.end(replyJson(head, detokenize(output), usage));
    },
  };
}

function usageOf(
  request: GenerationRequest,
  handle: RequestHandle | SubmitRefusal,
  completionTokens: number,
): Usage {
  return {
    promptTokens: request.prompt.length,
    completionTokens,
    cachedTokens: typeof handle === "string" ? 0 : handle.cachedTokens(),
  };
}

function refuse(response: ServerResponse, refusal: SubmitRefusal): void {
  const status = refusal === "full" ? 503 : 400;
  const message =
    refusal === "full"
      ? "Too many requests are waiting in the lab engine."
      : "The prompt and its output need more KV cache blocks than the engine has.";
  response.writeHead(status, { "content-type": "application/json" });
  response.end(errorJson(status, message));
}
