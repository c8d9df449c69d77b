/** A recorded vLLM stream, played over real ZMQ and NATS, steers requests through real Envoy. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Publisher } from "zeromq";
import { requireBinary } from "../harness/binaries.ts";
import { loadCapture } from "../harness/golden.ts";
import { Stack } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const POD = 1;
const envoy = await requireBinary("envoy");
const nats = await requireBinary("nats-server");

describe
  .skipIf(envoy.isMissing || nats.isMissing)
  .each([
    "vllm-0.33.0/a_shared_prefix.sha256.seed_0.int64",
    "vllm-0.33.0/a_shared_prefix.sha256_cbor.seed_unset.bytes",
    "vllm-0.11.2/a_shared_prefix.sha256.seed_unset.int64",
  ])(`golden capture %s${envoy.note}${nats.note}`, (name) => {
  const capture = loadCapture(name);
  const publisher = new Publisher({ linger: 0 });
  let stack: Stack;

  beforeAll(async () => {
    await publisher.bind("tcp://127.0.0.1:*");
    stack = await Stack.start({
      engines: 3,
      engine: { maxModelLen: 8192 },
      withNats: true,
      kvEvents: new Map([[POD, publisher.lastEndpoint ?? ""]]),
    });
  });
  afterAll(async () => {
    publisher.close();
    await stack?.stop();
  });

  it("sends each request with the recorded token ids to the endpoint that holds them", async () => {
    // A PUB socket says nothing of its subscribers: the first message is sent until it arrives.
    const [first, ...rest] = capture.messages;
    await waitUntil("the first message has arrived", async () => {
      if (first !== undefined) await publisher.send(first.frames.map((f) => Buffer.from(f)));
      return (await stack.router.metric("kvatlas_index_entries")) > 0;
    });
    for (const message of rest) await publisher.send(message.frames.map((f) => Buffer.from(f)));
    const last = capture.messages.at(-1)?.seq ?? 0;
    const read = (): Promise<number> =>
      stack.router.metric("kvatlas_events_messages_total", stack.engines[POD]?.address);
    await waitUntil("all messages are read", async () => (await read()) > last);

    const long = capture.expected.requests.filter(({ prompt_token_ids: t }) => t.length >= 64);
    expect(long.length).toBeGreaterThan(2);
    for (const { prompt_token_ids: tokens } of long) {
      const before = await stack.router.metric("kvatlas_predicted_tokens_total");
      const answer = await stack.complete(tokens);
      expect(answer).toMatchObject({ status: 200, engine: POD });
      const predicted = (await stack.router.metric("kvatlas_predicted_tokens_total")) - before;
      expect(predicted).toBeGreaterThanOrEqual(Math.floor((tokens.length - 1) / 16) * 16);
    }
  });
});
