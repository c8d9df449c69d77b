/** Request bodies of every API that is understood, as clients send them. */

export interface BodySample {
  readonly path: string;
  /** Field that may hold token ids; null: none. */
  readonly tokensField: string | null;
  readonly body: Uint8Array;
}

const TOKENS = Array.from({ length: 600 }, (_, i) => (i * 2_654_435_761) % 151_936);
const CALL = { id: "c1", type: "function", function: { name: "f", arguments: '{"a":1.0}' } };
const TOOL = { type: "function", function: { name: "f", parameters: { type: "object" } } };

function sample(path: string, tokensField: string | null, body: unknown): BodySample {
  return { path, tokensField, body: Buffer.from(JSON.stringify(body)) };
}

export function bodySamples(): readonly BodySample[] {
  const text = "Say \u00fcber \ud83d\ude00 <|im_end|>\n";
  return [
    sample("/v1/completions", "prompt", { model: "m", prompt: TOKENS, max_tokens: 1 }),
    sample("/v1/completions", "prompt", { prompt: [TOKENS, [1, 2]], cache_salt: "s", priority: 1 }),
    sample("/v1/completions", "prompt", { prompt: [text, text], add_special_tokens: false }),
    sample("/v1/embeddings", "input", { input: TOKENS }),
    sample("/inference/v1/generate", "token_ids", { token_ids: TOKENS, sampling_params: {} }),
    sample("/generate", "input_ids", { input_ids: TOKENS, lora_path: "a", extra_key: "k" }),
    sample("/generate", "input_ids", { text }),
    sample("/v1/chat/completions", null, {
      messages: [
        { role: "system", content: text },
        {
          role: "user",
          content: [
            { type: "text", text },
            { type: "refusal", refusal: text },
          ],
        },
        { role: "assistant", content: null, tool_calls: [CALL] },
        { role: "tool", content: text, tool_call_id: "c1" },
      ],
      tools: [TOOL],
      documents: [{ title: "t", text }],
      chat_template_kwargs: { enable_thinking: false },
    }),
    sample("/v1/responses", null, {
      instructions: text,
      tools: [{ type: "function", name: "f", parameters: {} }],
      input: [
        { role: "user", content: [{ type: "input_text", text }] },
        { type: "reasoning", content: [{ type: "reasoning_text", text }] },
        { type: "function_call", call_id: "c1", name: "f", arguments: "{}" },
        { type: "function_call_output", call_id: "c1", output: text },
        { role: "assistant", content: [{ type: "output_text", text }] },
      ],
    }),
    sample("/v1/messages", null, {
      system: [{ type: "text", text }],
      tools: [{ name: "f", input_schema: {} }],
      messages: [
        { role: "user", content: text },
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: text },
            { type: "tool_use", id: "t", name: "f", input: { a: [1, { b: null }] } },
          ],
        },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: "t", content: [{ type: "text", text }] },
            { type: "text", text },
          ],
        },
      ],
    }),
  ];
}
