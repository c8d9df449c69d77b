/** Prompts whose tokens come too late, through the router's gRPC edge. */
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { ProcessingRequest } from "../../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import { bodyOf, callPicker, destinationOf } from "../harness/ext-proc-call.ts";
import type { TestEndpoint } from "../harness/kvatlas-process.ts";
import { RouterProcess } from "../harness/router-process.ts";
import { waitUntil } from "../harness/wait-until.ts";

const ENGINES = 4;
const PROMPTS = 8;

let areEnginesSilent = false;
/** Engines that tokenise, a letter a token, until they fall silent. */
const engines = Array.from({ length: ENGINES }, () =>
  http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      if (areEnginesSilent) return;
      const { prompt } = JSON.parse(Buffer.concat(chunks).toString());
      const tokens = Array.from(String(prompt), (letter) => letter.charCodeAt(0));
      response.end(JSON.stringify({ count: tokens.length, max_model_len: 1_000_000, tokens }));
    });
  }),
);
let endpoints: TestEndpoint[];
let router: RouterProcess;

beforeAll(async () => {
  endpoints = await Promise.all(
    engines.map(async (engine, n) => {
      await new Promise<void>((resolve) => engine.listen(0, "127.0.0.1", resolve));
      const { port } = engine.address() as AddressInfo;
      return { name: `pod-${n}`, address: `127.0.0.1:${port}`, metrics: "off" } as const;
    }),
  );
});
afterAll(() => {
  for (const engine of engines) {
    engine.closeAllConnections();
    engine.close();
  }
});

const folders: string[] = [];
afterEach(async () => {
  await router.stop();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

async function startRouter(workers: number): Promise<void> {
  areEnginesSilent = false;
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-late-"));
  folders.push(folder);
  router = await RouterProcess.start({
    ...{ folder, endpoints },
    config: { prompt: { tokenize: "engine" }, extProc: { deadlineMs: 500, workers } },
  });
}

async function routed(prompt: string): Promise<string | null> {
  const header = (key: string, value: string): object => ({ key, raw_value: Buffer.from(value) });
  const body = JSON.stringify({ model: "lab-8b", prompt, max_tokens: 1 });
  const request: ProcessingRequest[] = [
    {
      request_headers: { headers: { headers: [header(":path", "/v1/completions")] } },
      protocol_config: {
        request_body_mode: "FULL_DUPLEX_STREAMED",
        response_body_mode: "FULL_DUPLEX_STREAMED",
      },
    },
    { request_body: { body: Buffer.from(body), end_of_stream: true } },
  ];
  const response: ProcessingRequest[] = [
    { response_headers: { headers: { headers: [header(":status", "200")] } } },
    { response_body: { body: Buffer.from("{}"), end_of_stream: true } },
  ];
  const responses = await callPicker({ address: router.extProcAddress }, request, response);
  expect(bodyOf(responses)).toBe(body);
  return destinationOf(responses);
}

it.each([0, 2])(
  "go by chunks of their text to who answered their beginning, and that is told, with %i threads that serve",
  async (workers) => {
    await startRouter(workers);
    const textOf = (n: number): string =>
      Array.from({ length: 600 }, (_, word) => `word${n}-${word}`).join(" ");
    const places: (string | null)[] = [];
    for (let n = 0; n < PROMPTS; n += 1) places.push(await routed(textOf(n)));
    expect(new Set(places).size).toBeGreaterThan(1);
    expect(await router.metric("kvatlas_extproc_fallbacks_total")).toBe(0);

    areEnginesSilent = true;
    for (const [n, place] of places.entries()) {
      expect(await routed(`${textOf(n)} and more`)).toBe(place);
    }
    const late = 'reason="deadline",by="text"';
    expect(await router.metric("kvatlas_extproc_fallbacks_total", late)).toBe(PROMPTS);
    expect(await router.metric("kvatlas_approximate_decisions_total", 'reason="deadline"')).toBe(
      PROMPTS,
    );
    const told = /"chosen_by":"text","msg":"decision late, made without the prompt's tokens"/;
    await waitUntil("the log", () => told.test(router.outputTail()));

    await routed("shorter than a chunk");
    const byLoad = 'reason="deadline",by="load"';
    expect(await router.metric("kvatlas_extproc_fallbacks_total", byLoad)).toBe(1);
  },
);
