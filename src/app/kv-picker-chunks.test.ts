/** Requests whose tokens are late or not to be known, by chunks of their text. */
import { expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import {
  MODEL,
  type Router,
  recordOf,
  requestOf,
  routerOf,
  why,
} from "../../test/harness/read-side-router.ts";
import type { EndpointId } from "../core/ids.ts";
import { ok, refused } from "../core/result.ts";
import type { PickOutcome, PickRequest } from "../extproc/picker.ts";
import type { PromptTokenizer, TokenizeRequest } from "../prompt/prompt-tokenizer.ts";

/** A tokenizer of one token a character, while it works. */
class Letters implements PromptTokenizer {
  state: "works" | "is-late" | "is-broken" = "works";
  tokenize(
    { prompt }: TokenizeRequest,
    signal: AbortSignal,
  ): ReturnType<PromptTokenizer["tokenize"]> {
    if (this.state === "is-broken") return Promise.resolve(refused("tokenizer-failed", "broken"));
    const text = prompt.kind === "text" ? prompt.text : JSON.stringify(prompt.chat);
    const tokens = Uint32Array.from(text, (letter) => letter.codePointAt(0) ?? 0);
    const made = ok({ source: "local", tokens, segments: 1, segmentsKnown: 0 } as const);
    if (this.state === "works") return Promise.resolve(made);
    return new Promise((resolve) => signal.addEventListener("abort", () => resolve(made)));
  }
}

const PODS = Array.from({ length: 5 }, (_, pod) => `10.0.0.${pod + 1}:8000`);
/** Their engines are heard, and have said all. */
const heardPods = PODS.map((address) =>
  specOf(address, {
    kvEvents: { address: "tcp://127.0.0.1:1", replay: null, topic: "", ranks: 1, engine: "vllm" },
  }),
);

async function textRouter(): Promise<Router & { readonly letters: Letters }> {
  const letters = new Letters();
  const router = await routerOf(heardPods, letters);
  for (const { id } of heardPods) {
    router.residency.setCursor(
      { endpointId: id, rank: 0 },
      {
        ...{ state: "EXACT", reason: null, epoch: 1, seq: 1, engineMs: 1 },
        ...{ blockSizesTokens: [16], model: MODEL, ignoredGroups: [] },
      },
    );
  }
  return { ...router, letters };
}

const textOf = (prompt: number): string =>
  Array.from({ length: 800 }, (_, word) => `word${prompt}-${word}`).join(" ");

/** As the edge does it: past the deadline, `pick` is given up and the choice asked for by load. */
async function routed(
  { picker, letters }: Router & { readonly letters: Letters },
  request: PickRequest,
): Promise<EndpointId> {
  const abort = new AbortController();
  const picked = picker.pick(request, abort.signal, () => {});
  let outcome: PickOutcome;
  if (letters.state === "is-late") {
    abort.abort();
    outcome = await picker.pickByLoad(request);
    await picked;
  } else outcome = await picked;
  if (outcome.kind !== "route") throw new Error(outcome.reason);
  return outcome.endpointId;
}

function answered({ picker }: Router, requestId: string, cachedTokens: number): void {
  picker.responseStarted(requestId, 200, null);
  picker.firstByte(requestId);
  const usage = { promptTokens: 8000, cachedTokens, completionTokens: 1 };
  picker.ended(requestId, { outcome: "complete", usage });
}

it("goes by chunks of the text where its tokens are late or missing, and says so", async () => {
  const router = await textRouter();
  const { letters, meter } = router;
  const places: EndpointId[] = [];
  for (let n = 0; n < 12; n += 1) {
    const id = `first-${n}`;
    places.push(await routed(router, requestOf(id, { prompt: textOf(n) })));
    expect(recordOf(router, id)?.matchedBy).toBe("tokens");
    answered(router, id, 0);
  }
  expect(new Set(places).size).toBeGreaterThan(2);
  const predicted = meter.total("kvatlas_predicted_tokens_total");
  for (const [n, place] of places.entries()) {
    letters.state = n % 2 === 0 ? "is-late" : "is-broken";
    const id = `again-${n}`;
    const more = requestOf(id, { prompt: `${textOf(n)} and more` });
    expect(await routed(router, more)).toBe(place);
    const record = recordOf(router, id);
    expect(record?.matchedBy).toBe("approximate");
    // All chunks of 512 bytes that are the same, as 128 tokens each.
    expect(record?.chosen.reusedTokens).toBe(Math.floor(textOf(n).length / 512) * 128);
    answered(router, id, 0);
  }
  expect(meter.total("kvatlas_approximate_decisions_total", { reason: "deadline" })).toBe(6);
  const broken = { reason: "tokenizer-failed" };
  expect(meter.total("kvatlas_approximate_decisions_total", broken)).toBe(6);
  expect(meter.total("kvatlas_approximate_tokens_total")).toBeGreaterThan(12 * 128);
  expect(meter.total("kvatlas_predicted_tokens_total")).toBe(predicted);
  expect(await why(router, "again-0", "table")).toContain("\napproximate: ");
});

it("sends a chat with an image where its turn before was answered", async () => {
  const router = await textRouter();
  const picture = { type: "image_url", image_url: { url: "data:image/png;base64,QUJD" } };
  for (let n = 0; n < 8; n += 1) {
    const asked = { role: "user", content: [{ type: "text", text: textOf(n) }, picture] };
    const chat = (id: string, ...turns: object[]): PickRequest => {
      const request = requestOf(id, { messages: [asked, ...turns] });
      return { ...request, path: "/v1/chat/completions" };
    };
    const place = await routed(router, chat(`first-${n}`));
    answered(router, `first-${n}`, 0);
    const next = chat(`next-${n}`, { role: "user", content: "and?" });
    expect(await routed(router, next)).toBe(place);
    expect(recordOf(router, `next-${n}`)?.chosen.reusedTokens).toBeGreaterThan(1024);
  }
});

it("keeps chunks apart by adapter and salt, for their life and while the endpoint is there", async () => {
  const router = await textRouter();
  const { letters, clock, fleet } = router;
  const fields = { prompt: textOf(1), cache_salt: "a" };
  await routed(router, requestOf("first", fields));
  answered(router, "first", 0);
  letters.state = "is-late";
  const reused = async (id: string, other: object): Promise<number | undefined> => {
    await routed(router, requestOf(id, { ...fields, ...other }));
    return recordOf(router, id)?.chosen.reusedTokens;
  };
  expect(await reused("same", {})).toBeGreaterThan(1000);
  expect(await reused("salt", { cache_salt: "b" })).toBe(0);
  expect(await reused("adapter", { model: "lora" })).toBe(0);
  expect(await reused("other", { prompt: `x${textOf(1)}` })).toBe(0);
  clock.jump(120_000);
  expect(await reused("old", {})).toBe(0);

  letters.state = "works";
  const place = await routed(router, requestOf("again", fields));
  answered(router, "again", 0);
  router.pods.watch.look();
  router.pods.watch.report();
  const labels = { endpoint: place };
  expect(router.meter.value("kvatlas_assumed_chunks", labels)).toBeGreaterThan(10);
  fleet.apply(heardPods.filter(({ id }) => id !== place));
  router.pods.watch.look();
  expect(router.pods.knowledge.chunks.blocksOf(place)).toBe(0);
});

it("never holds a guess by chunks against what engines deliver", async () => {
  const router = await textRouter();
  const { letters, clock, meter, pods } = router;
  const judged = (): number => {
    clock.jump(3000);
    pods.watch.look();
    return meter.total("kvatlas_audit_samples_total");
  };
  const request = { prompt: textOf(1) };
  const first = await routed(router, requestOf("first", request));
  answered(router, "first", 0);
  expect(judged()).toBe(1);
  const owed = (): unknown =>
    pods.knowledge.expected.silence(first, { heardMs: () => null, nowMs: 1e9 });
  const owedBefore = owed();
  letters.state = "is-late";
  for (let n = 0; n < 30; n += 1) {
    expect(await routed(router, requestOf(`late-${n}`, request))).toBe(first);
    answered(router, `late-${n}`, 0);
    expect(owed()).toEqual(owedBefore);
  }
  expect(judged()).toBe(1);
  letters.state = "works";
  await routed(router, requestOf("last", request));
  answered(router, "last", 0);
  expect(judged()).toBe(2);
});
