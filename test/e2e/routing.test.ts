/** The whole path on real parts: engines, NATS, router process, Envoy. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requireBinary } from "../harness/binaries.ts";
import { promptOf, Stack } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const POD = 2;
const envoy = await requireBinary("envoy");
const nats = await requireBinary("nats-server");
const isMissing = envoy.isMissing || nats.isMissing;

/** Keeps one request running at a pod, so that load alone would choose another. */
async function occupy(stack: Stack, prompt: readonly number[]): Promise<() => Promise<void>> {
  const abort = new AbortController();
  const answer = await fetch(`http://${stack.address}/v1/completions`, {
    method: "POST",
    body: JSON.stringify({ model: "lab-8b", prompt, max_tokens: 4000, stream: true }),
    signal: abort.signal,
  });
  expect(answer.status).toBe(200);
  // An engine ends a request a step after its answer: the seeding ones may still count.
  await waitUntil("it runs at the pod alone", () => stack.engines[POD]?.stats().running === 1);
  return async () => {
    abort.abort();
    await waitUntil("the pod is idle", () => stack.engines[POD]?.stats().running === 0);
  };
}

/** Whether the router's index has as many blocks as the engines hold, copies apart. */
async function isIndexed(stack: Stack): Promise<boolean> {
  const held = stack.engines.reduce((sum, engine) => {
    const blocks = engine.cachedBlocks().map(({ engineHash, tier }) => `${engineHash} ${tier}`);
    return sum + new Set(blocks).size;
  }, 0);
  return (await stack.router.metric("kvatlas_index_entries")) === held;
}

describe.skipIf(isMissing).each(["direct", "direct, served by threads", "nats", "relay"] as const)(
  `prefix routing through real Envoy, events %s${envoy.note}${nats.note}`,
  (transport) => {
    let stack: Stack;

    beforeAll(async () => {
      stack = await Stack.start({
        ...{ engines: 4, withNats: transport === "nats", withRelay: transport === "relay" },
        config: { extProc: { workers: transport === "direct, served by threads" ? 2 : 0 } },
        // Without it nothing would show, after the restart, that the engines are in the same life.
        engine: { replayPort: 0 },
      });
    });
    afterAll(() => stack?.stop());

    it("sends a request to the pod that alone holds its prefix, until that pod evicts it", async () => {
      const prompt = promptOf(1, 2048);
      const ballast = promptOf(2, 2048);
      await stack.seed(POD, prompt);
      await stack.seed(POD, ballast);
      const release = await occupy(stack, ballast);
      const held = await stack.complete([...prompt, 1, 2, 3]);
      expect(held).toMatchObject({ status: 200, engine: POD });
      expect(JSON.parse(held.text).usage.prompt_tokens_details.cached_tokens).toBe(2048);

      await stack.evict(POD, prompt);
      const evicted = await stack.complete([...prompt, 4, 5, 6]);
      expect(evicted.status).toBe(200);
      expect(evicted.engine).not.toBe(POD);
      await release();
    });

    it("still does after kill -9 and a restart, with no engine sending anything again", async () => {
      const prompt = promptOf(3, 2048);
      const ballast = promptOf(4, 2048);
      await stack.seed(POD, prompt);
      await stack.seed(POD, ballast);
      // Also what the requests before left behind, of which the engines tell after their answers.
      await waitUntil("the index has what the engines hold", () => isIndexed(stack));
      await waitUntil(
        "write-behind has flushed",
        async () => (await stack.router.metric("kvatlas_store_dirty_pages")) === 0,
      );
      const published = stack.engines.map((engine) => engine.publishedSeq());

      await stack.router.killHard();
      await stack.router.restart();
      // It serves while it restores.
      await waitUntil("the store is restored", () => isIndexed(stack));
      expect(stack.engines.map((engine) => engine.publishedSeq())).toEqual(published);
      await waitUntil(
        "Envoy has found the router again",
        async () => (await stack.complete(promptOf(5, 4))).status === 200,
        10_000,
      );
      const release = await occupy(stack, ballast);
      expect(await stack.complete([...prompt, 7, 8])).toMatchObject({ status: 200, engine: POD });
      await release();
    });

    it("goes on counting exactly after the restart", async () => {
      const text = await (await fetch(`http://${stack.router.adminAddress}/metrics`)).text();
      const states = text.split("\n").filter((line) => line.startsWith("kvatlas_holder_state{"));
      expect(states.length).toBeGreaterThan(0);
      // A pod that nothing was sent to has said nothing.
      for (const state of states) expect(state).toMatch(/state="EXACT"|reason="not-heard"/);
      expect(states.some((state) => state.includes('state="EXACT"'))).toBe(true);
    });
  },
);

describe.skipIf(isMissing)(`without its event log${envoy.note}${nats.note}`, () => {
  let stack: Stack;

  beforeAll(async () => {
    stack = await Stack.start({ engines: 2, withNats: true });
  });
  afterAll(() => stack?.stop());

  it("keeps answering from what it knows, says that it is degraded, and catches up", async () => {
    const prompt = promptOf(6, 1024);
    await stack.seed(1, prompt);
    const port = stack.nats?.port ?? 0;
    await stack.nats?.kill();
    await waitUntil(
      "the router says that NATS is away",
      async () => (await stack.router.metric("kvatlas_degraded", '"nats"')) === 1,
    );
    const { status, text } = await stack.router.ready();
    expect(status).toBe(200);
    expect(text).toContain("DEGRADED: NATS is not connected");
    expect(await stack.complete([...prompt, 1])).toMatchObject({ status: 200, engine: 1 });

    // Happens while the log is away: it has to reach the index once the log is back.
    const later = promptOf(7, 1024);
    const address = stack.engines[0]?.address ?? "";
    await stack.post(address, { model: "lab-8b", prompt: later, max_tokens: 1 });
    const entries = await stack.router.metric("kvatlas_index_entries");
    await stack.startNats(port);
    await waitUntil(
      "what was stored meanwhile is in the index",
      async () => (await stack.router.metric("kvatlas_index_entries")) >= entries + 64,
      15_000,
    );
    expect(await stack.complete([...later, 2])).toMatchObject({ status: 200, engine: 0 });
    expect(await stack.router.metric("kvatlas_degraded", '"nats"')).toBe(0);
    expect(await stack.router.metric("kvatlas_events_gaps_total")).toBe(0);
  });
});
