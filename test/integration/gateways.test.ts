/** Every gateway of docs/gateways.md: its Envoy, or its messages, before the real router and lab engines. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeClock } from "../../src/core/node-clock.ts";
import { ENVOY_RECIPES, type EnvoyConfig, envoyRecipe } from "../../src/lab/file-envoy-recipe.ts";
import { startEnvoy } from "../../src/lab/process-envoy.ts";
import { requireBinary } from "../harness/binaries.ts";
import { withSubset } from "../harness/envoy-edits.ts";
import { promptOf, Stack } from "../harness/stack.ts";

const envoy = await requireBinary("envoy");
const ENGINES = 3;
const PROMPT_TOKENS = 512;

describe.skipIf(envoy.isMissing)(`gateways${envoy.note}`, () => {
  let stack: Stack;

  beforeAll(async () => {
    stack = await Stack.start({ engines: ENGINES, engine: { timeScale: 0 } });
  });
  afterAll(() => stack?.stop());

  const recipe = (name: (typeof ENVOY_RECIPES)[number]): EnvoyConfig =>
    envoyRecipe({
      recipe: name,
      listenAddress: "127.0.0.1:0",
      adminAddress: "127.0.0.1:0",
      extProcAddress: stack.router.extProcAddress,
      endpoints: stack.engines.map((engine) => engine.address),
    });

  /** Statuses and engines of one request for each engine, whose prompt that engine alone holds. */
  async function routed(config: EnvoyConfig, firstSeed: number): Promise<[number, number][]> {
    const running = await startEnvoy({ binary: envoy.path, clock: nodeClock, config });
    const address = running.listenAddress;
    const outcomes: [number, number][] = [];
    try {
      for (let engine = 0; engine < ENGINES; engine += 1) {
        const prompt = promptOf(firstSeed + engine, PROMPT_TOKENS);
        await stack.seed(engine, prompt);
        const answer = await stack.post(address, { model: "lab-8b", prompt, max_tokens: 1 });
        outcomes.push([answer.status, answer.engine]);
      }
    } finally {
      await running.stop();
    }
    return outcomes;
  }

  it.each(ENVOY_RECIPES.map((name, position) => ({ name, seed: 100 * (position + 1) })))(
    "sends a prompt to the endpoint that holds it, through $name.yaml",
    async ({ name, seed }) => {
      expect(await routed(recipe(name), seed)).toEqual([
        [200, 0],
        [200, 1],
        [200, 2],
      ]);
    },
  );

  it("answers 503 when the subset names no endpoint of the pool", async () => {
    const config = withSubset(recipe("kvatlas"), ["127.0.0.1:1"]);
    const running = await startEnvoy({ binary: envoy.path, clock: nodeClock, config });
    const answer = await stack.post(running.listenAddress, { model: "lab-8b", prompt: [1, 2, 3] });
    await running.stop();
    expect([answer.status, answer.engine]).toEqual([503, -1]);
    expect(answer.text).toContain("subset-empty");
  });
});
