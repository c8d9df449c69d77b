/** Holding in overload on real parts: an engine that is saturated, router process, Envoy, `kvatlas why`. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import type { DecisionRecord } from "../../src/router/decision-record.ts";
import { requireBinary } from "../harness/binaries.ts";
import { promptOf, Stack } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const BIN = fileURLToPath(new URL("../../bin/kvatlas.js", import.meta.url));
const envoy = await requireBinary("envoy");
/** To the router each of the prompts is minutes of work, so that a queue does not end while the test looks. */
const SLOW = { prefillTokensPerSecond: 1 };
const TOKENS = 512;

let stack: Stack | null = null;
afterEach(async () => {
  await stack?.stop();
  stack = null;
});

/** One engine that runs one request at a time, and runs it until `release`. */
async function saturated(
  flow: object,
  workers = 0,
): Promise<{ stack: Stack; release: () => void }> {
  const engine = { maxSeqs: 1 };
  stack = await Stack.start({
    engines: 1,
    engine,
    config: { router: SLOW, flow, extProc: { workers } },
  });
  const abort = new AbortController();
  const body = { model: "lab-8b", prompt: promptOf(1, 16), max_tokens: 40_000, stream: true };
  const answer = await fetch(`http://${stack.engines[0]?.address}/v1/completions`, {
    method: "POST",
    body: JSON.stringify(body),
    signal: abort.signal,
  });
  expect(answer.status).toBe(200);
  return { stack, release: () => abort.abort() };
}

function send(via: Stack, id: string, seed: number, signal?: AbortSignal): Promise<Response> {
  return fetch(`http://${via.address}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-request-id": id },
    body: JSON.stringify({ model: "lab-8b", prompt: promptOf(seed, TOKENS), max_tokens: 2 }),
    signal: signal ?? null,
  });
}

async function complete(via: Stack, id: string, seed: number): Promise<number> {
  const answer = await send(via, id, seed);
  const { usage } = (await answer.json()) as { usage?: { completion_tokens: number } };
  expect(usage?.completion_tokens).toBe(2);
  return answer.status;
}

const waiting = (of: Stack): number => of.engines[0]?.stats().waiting ?? 0;

function why(of: Stack, ...args: string[]): Promise<string> {
  const url = `http://${of.router.adminAddress}`;
  return new Promise((resolve) => {
    execFile(process.execPath, [BIN, "why", ...args, "--url", url], (_, stdout) => resolve(stdout));
  });
}

describe.skipIf(envoy.isMissing)(`holding in overload${envoy.note}`, () => {
  it.each([0, 2])(
    "holds what comes while the engine is far behind, and answers it later, with %i threads that serve",
    async (workers) => {
      const { stack, release } = await saturated({}, workers);
      const { router } = stack;
      const first = complete(stack, "first", 2);
      await waitUntil("the engine has a queue", () => waiting(stack) === 1);
      const held = [complete(stack, "held-1", 3), complete(stack, "held-2", 4)];
      const isHeld = (requests: number) => async (): Promise<boolean> =>
        (await router.metric("kvatlas_held_requests")) === requests;
      await waitUntil("they are held", isHeld(2));
      const leaving = new AbortController();
      const left = send(stack, "left", 5, leaving.signal);
      await waitUntil("a third one is held", isHeld(3));
      leaving.abort();
      await expect(left).rejects.toThrow();
      await waitUntil("it has left with its client", isHeld(2));
      expect(await router.metric("kvatlas_held_bytes")).toBeGreaterThan(2 * TOKENS);
      expect(waiting(stack)).toBe(1);

      release();
      expect(await Promise.all([first, ...held])).toEqual([200, 200, 200]);
      expect(stack.engines[0]?.stats()).toMatchObject({ requests: 4, finished: 3, aborted: 1 });
      expect(await router.metric("kvatlas_held_requests")).toBe(0);
      expect(await router.metric("kvatlas_held_bytes")).toBe(0);
      expect(await router.metric("kvatlas_holds_total", 'outcome="held"')).toBe(3);
      expect(await router.metric("kvatlas_hold_seconds_count")).toBe(2);

      expect(await why(stack, "held-1")).toMatch(/^held-1: \S+ \(cheapest\), held \d+ ms before$/m);
      const record = JSON.parse(await why(stack, "held-1", "-o", "json")) as DecisionRecord;
      expect(record.heldMs).toBeGreaterThan(0);
      // It was let go because the queue had ended, not because it had waited too long.
      expect(record.queueMeanMs).toBeLessThan(3000);
      expect(await why(stack, "first")).not.toContain("held");
    },
  );

  it("answers the named objectives with 429 meanwhile, and holds the others", async () => {
    const { stack, release } = await saturated({ shedObjectives: ["batch"] });
    const { router } = stack;
    const first = complete(stack, "first", 2);
    await waitUntil("the engine has a queue", () => waiting(stack) === 1);
    for (const name of ["x-llm-d-inference-objective", "x-gateway-inference-objective"]) {
      const answer = await fetch(`http://${stack.address}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", [name]: "batch" },
        body: JSON.stringify({ model: "lab-8b", prompt: promptOf(3, TOKENS), max_tokens: 2 }),
      });
      expect(answer.status).toBe(429);
      expect(answer.headers.get("x-kvatlas-refused")).toBe("overloaded");
      expect(await answer.json()).toMatchObject({ error: { code: "overloaded" } });
    }
    expect(await router.metric("kvatlas_extproc_refused_total", 'reason="overloaded"')).toBe(2);
    const held = complete(stack, "held", 4);
    await waitUntil("another is held", async () => {
      return (await router.metric("kvatlas_held_requests")) === 1;
    });
    release();
    expect(await Promise.all([first, held])).toEqual([200, 200]);
    expect(stack.engines[0]?.stats().requests).toBe(3);
  });

  it("sends everything on at once where it is switched off", async () => {
    const { stack, release } = await saturated({ isOn: false });
    const { router } = stack;
    const answers = [complete(stack, "a", 2), complete(stack, "b", 3), complete(stack, "c", 4)];
    await waitUntil("the engine has them all", () => waiting(stack) === 3);
    expect(await router.metric("kvatlas_held_requests")).toBe(0);
    release();
    expect(await Promise.all(answers)).toEqual([200, 200, 200]);
    expect(await router.metric("kvatlas_holds_total")).toBe(0);
    expect(await why(stack, "c")).not.toContain("held");
  });
});
