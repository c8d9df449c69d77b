import fc from "fast-check";
import { expect, it } from "vitest";
import { routerConfigSchema } from "./config.ts";
import { ownWork } from "./cost-model.ts";
import { NO_MATCH } from "./endpoint-match.ts";

const config = routerConfigSchema.parse({});

it("is for a batch what its prompts are one by one", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4096 }),
      fc.integer({ min: 1, max: 2048 }),
      (n, prompts) => {
        const one = ownWork(NO_MATCH, { inputTokens: n, prompts: 1 }, config).workSeconds;
        const all = ownWork(NO_MATCH, { inputTokens: n * prompts, prompts }, config).workSeconds;
        expect(all / (prompts * one)).toBeCloseTo(1, 9);
      },
    ),
  );
});
