/** Configuration of the way from a request body to token ids. */
import { z } from "zod";
import { ENGINE_VERSIONS_NEWEST, ENGINES, isEngineVersion } from "./engine-rules.ts";

/** Names of models that are rewritten. */
const MODEL_REWRITES_MAX = 256;
const MODEL_CHARS_MAX = 512;

const promptSchema = z.strictObject({
  tokenize: z
    .enum(["engine", "render", "local", "off"])
    .default("engine")
    .describe(
      "engine: text and chat go through an endpoint's /tokenize; render: through its /v1/.../render, where it has one; local: in this process, with the files of tokenizerPath; off: they are routed by load",
    ),
  tokenizerPath: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe(
      "with local: folder with the model's tokenizer.json, tokenizer_config.json and, where it has one, chat_template.jinja, relative to the configuration file",
    ),
  engine: z
    .enum(ENGINES)
    .default("vllm")
    .describe(
      "engine of this pool: they make another prompt of the same chat; SGLang as its versions since 0.5.20 do it, for models of text alone, and never render",
    ),
  engineVersion: z
    .string()
    .refine(isEngineVersion, { error: 'expected a version such as "0.33.0"' })
    .nullable()
    .default(null)
    .describe(
      `version of the engine in this pool: from one to another the same body becomes another prompt; null: the newest whose rules are known (vLLM ${ENGINE_VERSIONS_NEWEST.vllm}, SGLang ${ENGINE_VERSIONS_NEWEST.sglang})`,
    ),
  modelRewrites: z
    .record(z.string().min(1).max(MODEL_CHARS_MAX), z.string().min(1).max(MODEL_CHARS_MAX))
    .refine((names) => Object.keys(names).length <= MODEL_REWRITES_MAX, {
      error: `expected at most ${MODEL_REWRITES_MAX} names`,
    })
    .default({})
    .describe(
      "names of models by the names that clients use: the name in the request's body is replaced, and no other byte; a request's header x-llm-d-model-name-rewrite goes before; bodies that the gateway does not show stay as they are",
    ),
  tokensMax: z
    .int()
    .min(16)
    .max(4_194_304)
    .default(1_048_576)
    .describe("tokens of a prompt that are keyed; what is beyond is not matched"),
  memoBytesMax: z
    .int()
    .min(0)
    .default(67_108_864)
    .describe(
      "bytes of remembered token ids, by the hash of their text; with local, long texts and their token ids take as much again at most",
    ),
});

export const promptConfigSchema: typeof promptSchema = promptSchema.refine(
  ({ tokenize, tokenizerPath }) => tokenize !== "local" || tokenizerPath !== null,
  { path: ["tokenizerPath"], error: "a folder, as tokenize is local" },
);

export type PromptConfig = z.infer<typeof promptConfigSchema>;
