import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import { endpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { ok, refused } from "../core/result.ts";
import { Fleet } from "../fleet/fleet.ts";
import { InflightBlocks } from "../indexer/inflight-blocks.ts";
import { engineRules } from "../prompt/engine-rules.ts";
import type { PromptTokenizer } from "../prompt/prompt-tokenizer.ts";
import { ParityWatch } from "./parity-watch.ts";

type Body = Readonly<Record<string, unknown>>;

const servers: http.Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** An engine that answers /tokenize. */
async function engine(tokensOf: (body: Body) => readonly number[] | null): Promise<string> {
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const tokens = tokensOf(JSON.parse(Buffer.concat(chunks).toString()));
      response.writeHead(tokens === null ? 400 : 200).end(JSON.stringify({ tokens }));
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Ours: one token per kind of canary. */
const ours: PromptTokenizer = {
  tokenize: ({ prompt }) => {
    const tokens =
      prompt.kind === "chat"
        ? [3, prompt.chat.tools === null ? 4 : 5]
        : [...(prompt.isSpecialAdded === true ? [1] : []), 2];
    const counts = { segments: 1, segmentsKnown: 0 };
    return Promise.resolve(ok({ source: "local", tokens: Uint32Array.from(tokens), ...counts }));
  },
};
const same = ({ messages, tools, add_special_tokens: special }: Body): number[] => {
  if (messages !== undefined) return [3, tools === undefined ? 4 : 5];
  return special === true ? [1, 2] : [2];
};

/** A tool with a field that only some versions of engines show to the template. */
function hasUnknownField({ tools }: Body): boolean {
  return JSON.stringify(tools ?? []).includes("category");
}

async function compared(address: string, tokenizer: PromptTokenizer | null = ours) {
  const meter = recordingMeter();
  const ports = { clock: nodeClock, log: silentLog, meter };
  const rules = engineRules({ engine: "vllm", engineVersion: "0.33.0" });
  const fleet = new Fleet({ ...ports, blocks: new InflightBlocks() });
  const id = endpointId(address);
  fleet.apply([specOf(address)]);
  const watch = new ParityWatch({ ...ports, fleet, model: "m", tokenizer, rules });
  await watch.look();
  return { watch, id, fleet, meter };
}

it("says of an engine with the same token ids that it has them, and asks it no more for a while", async () => {
  const asked: Body[] = [];
  const address = await engine((body) => {
    asked.push(body);
    return same(body);
  });
  const { watch, id, meter } = await compared(address);
  expect(watch.reportOf(id)).toMatchObject({ state: "equal", cause: null });
  expect(watch.findingsOf(id)).toEqual([]);
  await watch.look();
  expect(asked).toHaveLength(5);
  expect(meter.total("kvatlas_prompt_parity_checks_total", { state: "equal" })).toBe(1);
});

it.each([
  ["tokenizer", (body: Body) => (body["prompt"] === undefined ? same(body) : [9, 9])],
  ["special-tokens", (body: Body) => (body["add_special_tokens"] === true ? [2] : same(body))],
  ["template", (body: Body) => (body["messages"] === undefined ? same(body) : [3])],
  ["tools", (body: Body) => (body["tools"] === undefined ? same(body) : [3, 5, 6])],
  ["version", (body: Body) => (hasUnknownField(body) ? [3, 5, 7] : same(body))],
])(
  "names %s where an engine's token ids differ, and the first that does",
  async (cause, tokensOf) => {
    const { watch, id } = await compared(await engine(tokensOf));
    expect(watch.reportOf(id)).toMatchObject({ state: "mismatch", cause });
    const positions = {
      tokenizer: "position 0: token 2 here, token 9 at the engine",
      "special-tokens": "position 0: token 1 here, token 2 at the engine",
      template: "position 1: token 4 here, the end at the engine",
      tools: "position 2: the end here, token 6 at the engine",
      version: "position 2: the end here, token 7 at the engine",
    };
    const detail = Object.entries(positions).find(([name]) => name === cause)?.[1];
    expect(watch.findingsOf(id)).toMatchObject([
      { name: "prompt-mismatch", detail: `${cause}, ${detail}` },
    ]);
  },
);

it("says that it cannot tell where an engine does not tokenise, and forgets one that has left", async () => {
  const { watch, id, fleet } = await compared(await engine(() => null));
  expect(watch.reportOf(id)).toMatchObject({ state: "unavailable" });
  fleet.apply([]);
  await watch.look();
  expect(watch.reportOf(id).state).toBe("pending");
});

it("compares what both sides have: a model without chat template is equal by its text", async () => {
  const textOnly: PromptTokenizer = {
    tokenize: (request, signal) =>
      request.prompt.kind === "chat"
        ? Promise.resolve(refused("template-unsupported", "no template"))
        : ours.tokenize(request, signal),
  };
  const { watch, id } = await compared(await engine(same), textOnly);
  expect(watch.reportOf(id)).toMatchObject({ state: "equal", detail: "2 canaries are equal" });
});

it("compares nothing where text is not tokenised", async () => {
  const { watch, id } = await compared(await engine(same), null);
  expect(watch.reportOf(id).state).toBe("pending");
  watch.start();
  await watch.stop();
});
