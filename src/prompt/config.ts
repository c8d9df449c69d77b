/** Configuration of the way from a request body to token ids. */
import { z } from "zod";

export const promptConfigSchema = z.strictObject({
  tokenize: z
    .enum(["engine", "off"])
    .default("engine")
    .describe(
      "engine: text and chat go through an endpoint's /tokenize; off: they are routed by load",
    ),
  tokensMax: z
    .int()
    .min(16)
    .max(4_194_304)
    .default(1_048_576)
    .describe("tokens of a prompt that are keyed; what is beyond is not matched"),
  memoEntries: z
    .int()
    .min(0)
    .max(1_000_000)
    .default(4096)
    .describe("prompts whose token ids are remembered by the hash of their text"),
});

export type PromptConfig = z.infer<typeof promptConfigSchema>;
