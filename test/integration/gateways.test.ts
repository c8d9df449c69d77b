/** The gateways of docs/gateways.md: their Envoy, or their messages, before the real router and lab engines. */
import { mkdtempSync, rmSync } from "node:fs";
import http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeClock } from "../../src/core/node-clock.ts";
import {
  ENVOY_RECIPES,
  type EnvoyConfig,
  placeEnvoy,
  readEnvoyFile,
  recipeFile,
} from "../../src/lab/file-envoy-recipe.ts";
import { type RunningEnvoy, startEnvoy } from "../../src/lab/process-envoy.ts";
import { requireBinary } from "../harness/binaries.ts";
import { certificateAuthority, isOpensslMissing } from "../harness/certificates.ts";
import { managersOf, withSubset } from "../harness/envoy-edits.ts";
import { bodyOf, callPicker, destinationOf } from "../harness/ext-proc-call.ts";
import { readManifests, withEnvoyFilter, withTrafficPolicy } from "../harness/gateway-patches.ts";
import { send } from "../harness/http-client.ts";
import { promptOf, Stack } from "../harness/stack.ts";
import { startUpstream, type TestUpstream } from "../harness/test-upstream.ts";

const envoyBinary = await requireBinary("envoy");
const PROMPT_TOKENS = 512;
/** Nobody listens there. */
const NO_ROUTER = "127.0.0.1:1";

/** What the controller of a gateway makes. */
function madeBy(name: string): EnvoyConfig {
  return readEnvoyFile(new URL(`../gateways/${name}.yaml`, import.meta.url));
}

function buffered(config: EnvoyConfig): EnvoyConfig {
  return JSON.parse(JSON.stringify(config).replaceAll("FULL_DUPLEX_STREAMED", "BUFFERED"));
}

const istio = withEnvoyFilter(madeBy("istio"), readManifests("istio.yaml"));
const aiGatewayPolicy = readManifests("envoy-ai-gateway.yaml");
const aiGateway = withTrafficPolicy(madeBy("envoy-ai-gateway"), aiGatewayPolicy);
const aiGatewayOpen = withTrafficPolicy(madeBy("envoy-ai-gateway-fail-open"), aiGatewayPolicy);

const GATEWAYS: readonly (readonly [name: string, config: EnvoyConfig])[] = [
  ...ENVOY_RECIPES.map((name) => [name, readEnvoyFile(recipeFile(name))] as const),
  ["Istio", istio],
];
const TLS_GATEWAYS: typeof GATEWAYS = [
  ["Envoy AI Gateway", aiGateway],
  ["Envoy AI Gateway, buffered", buffered(aiGateway)],
  ["Envoy AI Gateway, failing open", aiGatewayOpen],
];

/** As with an empty `meshConfig.defaultHttpRetryPolicy`. */
function withoutRetries(config: EnvoyConfig): EnvoyConfig {
  return JSON.parse(
    JSON.stringify(config, (key, value) => (key === "retry_policy" ? undefined : value)),
  );
}

function postWithTrailers(address: string, body: string): Promise<number> {
  const session = http2.connect(`http://${address}`);
  return new Promise<number>((resolve, reject) => {
    const stream = session.request(
      { ":method": "POST", ":path": "/v1/completions", "content-type": "application/json" },
      { waitForTrailers: true, endStream: false },
    );
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-checksum": "1" }));
    stream.on("response", (headers) => resolve(Number(headers[":status"])));
    stream.on("error", reject);
    stream.resume().end(body);
  }).finally(() => session.close());
}

function start(
  config: EnvoyConfig,
  to: { readonly extProcAddress: string; readonly endpoints: readonly string[] },
): Promise<RunningEnvoy> {
  const pickers = config.static_resources.clusters.filter(({ name }) => name !== "pool");
  const clusters = Object.fromEntries(pickers.map(({ name }) => [name, [to.extProcAddress]]));
  const placed = placeEnvoy(config, {
    admin: "127.0.0.1:0",
    listeners: { kvatlas: "127.0.0.1:0" },
    clusters: { ...clusters, pool: to.endpoints },
  });
  return startEnvoy({ binary: envoyBinary.path, clock: nodeClock, config: placed });
}

/** An Envoy with this configuration before the router and the engines of a stack. */
function frontOf(stack: Stack, config: EnvoyConfig): Promise<RunningEnvoy> {
  const endpoints = stack.engines.map((engine) => engine.address);
  return start(config, { extProcAddress: stack.router.extProcAddress, endpoints });
}

/** Of each engine's own prompt: the status, and who got it. */
async function sendToHolders(stack: Stack, config: EnvoyConfig): Promise<[number, number][]> {
  const gateway = await frontOf(stack, config);
  const outcomes: [number, number][] = [];
  for (const engine of stack.engines.keys()) {
    const prompt = await seedPrompt(stack, engine);
    const body = { model: "lab-8b", prompt, max_tokens: 1, user: "x".repeat(100_000) };
    const answer = await stack.post(gateway.listenAddress, body);
    outcomes.push([answer.status, answer.engine]);
  }
  await gateway.stop();
  return outcomes;
}
const TO_HOLDERS = [
  [200, 0],
  [200, 1],
  [200, 2],
];

/** A prompt of its own that this engine alone holds. */
async function seedPrompt(stack: Stack, engine: number): Promise<number[]> {
  seed += 1;
  const prompt = promptOf(seed, PROMPT_TOKENS);
  await stack.seed(engine, prompt);
  return prompt;
}
let seed = 0;

/** Its own client of ext_proc, which reads one address, and no list of them. */
async function expectAgentgatewayToFind(stack: Stack, tls: { isTls: boolean }): Promise<void> {
  const header = (key: string, value: string) => ({ key, raw_value: Buffer.from(value) });
  for (const [position, engine] of stack.engines.entries()) {
    const prompt = await seedPrompt(stack, position);
    const text = JSON.stringify({ model: "lab-8b", prompt });
    const headers = [header(":method", "POST"), header(":path", "/v1/completions")];
    const modes = {
      request_body_mode: "FULL_DUPLEX_STREAMED",
      response_body_mode: "FULL_DUPLEX_STREAMED",
    } as const;
    const request = [
      { request_headers: { headers: { headers } }, protocol_config: modes },
      { request_body: { body: Buffer.from(text.slice(0, 700)) } },
      { request_body: { body: Buffer.from(text.slice(700)) } },
      { request_body: { end_of_stream: true } },
    ];
    const response = [
      { response_headers: { headers: { headers: [header(":status", "200")] } } },
      { response_body: { body: Buffer.from("{}"), end_of_stream: true } },
    ];
    const router = { address: stack.router.extProcAddress, ...tls };
    const responses = await callPicker(router, request, response);
    expect(destinationOf(responses)).toBe(engine.address);
    expect(bodyOf(responses)).toBe(text);
  }
}

describe.skipIf(envoyBinary.isMissing)(`gateways before the router${envoyBinary.note}`, () => {
  let stack: Stack;

  beforeAll(async () => {
    stack = await Stack.start({ engines: 3, engine: { timeScale: 0 } });
  });
  afterAll(() => stack?.stop());

  it.each(GATEWAYS)(
    "sends a prompt to the endpoint that holds it, through %s",
    async (_, config) => {
      expect(await sendToHolders(stack, config)).toEqual(TO_HOLDERS);
    },
  );

  it("sends a prompt to the endpoint that holds it, through NGINX Gateway Fabric's messages", async () => {
    for (const [position, engine] of stack.engines.entries()) {
      const prompt = await seedPrompt(stack, position);
      // Headers as text, no pseudo headers and no modes; the body in one message; then half-closed.
      const headers = [{ key: "Content-Type", value: "application/json" }];
      const body = Buffer.from(JSON.stringify({ model: "lab-8b", prompt }));
      const responses = await callPicker({ address: stack.router.extProcAddress }, [
        { request_headers: { headers: { headers } } },
        { request_body: { body, end_of_stream: true } },
      ]);
      expect(destinationOf(responses)).toBe(engine.address);
    }
  });

  it("sends a prompt to the endpoint that holds it, through agentgateway's messages", async () => {
    await expectAgentgatewayToFind(stack, { isTls: false });
  });

  it("loses a request with HTTP/2 trailers to Istio's retries, and not without them", async () => {
    const body = JSON.stringify({ model: "lab-8b", prompt: [1, 2, 3], max_tokens: 1 });
    const statuses: number[] = [];
    for (const config of [istio, withoutRetries(istio)]) {
      const gateway = await frontOf(stack, config);
      statuses.push(await postWithTrailers(gateway.listenAddress, body));
      await gateway.stop();
    }
    expect(statuses).toEqual([400, 200]);
  });

  it("answers 503 when the subset names no endpoint of the pool", async () => {
    const recipe = readEnvoyFile(recipeFile("kvatlas"));
    const gateway = await frontOf(stack, withSubset(recipe, ["127.0.0.1:1"]));
    const answer = await stack.post(gateway.listenAddress, { model: "lab-8b", prompt: [1, 2, 3] });
    await gateway.stop();
    expect([answer.status, answer.engine]).toEqual([503, -1]);
    expect(answer.text).toContain("subset-empty");
  });
});

describe.skipIf(envoyBinary.isMissing)(`the conformance tests' header${envoyBinary.note}`, () => {
  it.each([
    [true, [0, 1, 2]],
    [false, null],
  ])("steers where extProc.isTestSelectionOn is %s", async (isTestSelectionOn, expected) => {
    const config = { extProc: { isTestSelectionOn } };
    const stack = await Stack.start({ engines: 3, engine: { timeScale: 0 }, config });
    try {
      // Of its own the router sends it to the one that holds it.
      const prompt = await seedPrompt(stack, 0);
      const gateway = await frontOf(stack, readEnvoyFile(recipeFile("kvatlas")));
      const places: number[] = [];
      for (const { address } of stack.engines) {
        const before = stack.engines.map((engine) => engine.stats().requests);
        await fetch(`http://${gateway.listenAddress}/v1/completions`, {
          method: "POST",
          headers: { "test-epp-endpoint-selection": address },
          body: JSON.stringify({ model: "lab-8b", prompt, max_tokens: 1 }),
        });
        places.push(
          stack.engines.findIndex((engine, at) => engine.stats().requests > (before[at] ?? 0)),
        );
      }
      await gateway.stop();
      expect(places).toEqual(expected ?? [0, 0, 0]);
    } finally {
      await stack.stop();
    }
  });
});

const noTls = isOpensslMissing ? " (skipped: openssl is missing)" : envoyBinary.note;

describe.skipIf(envoyBinary.isMissing || isOpensslMissing)(
  `gateways that speak TLS${noTls}`,
  () => {
    const folder = mkdtempSync(join(tmpdir(), "kvatlas-gateway-tls-"));
    let stack: Stack;

    beforeAll(async () => {
      const tls = certificateAuthority(folder, "authority").issue("kvatlas");
      const config = { extProc: { tls } };
      stack = await Stack.start({ engines: 3, engine: { timeScale: 0 }, config });
    });
    afterAll(async () => {
      await stack?.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    it.each(TLS_GATEWAYS)(
      "sends a prompt to the endpoint that holds it, through %s",
      async (_, config) => {
        expect(await sendToHolders(stack, config)).toEqual(TO_HOLDERS);
      },
    );

    it("sends a prompt to the endpoint that holds it, through agentgateway's messages over TLS", async () => {
      await expectAgentgatewayToFind(stack, { isTls: true });
    });

    it("refuses long prompts that Envoy AI Gateway buffers without the ClientTrafficPolicy", async () => {
      const gateway = await frontOf(stack, buffered(madeBy("envoy-ai-gateway")));
      const long = { model: "lab-8b", prompt: promptOf(1, 16_384) };
      const answer = await stack.post(gateway.listenAddress, long);
      await gateway.stop();
      expect(answer.status).toBe(413);
    });

    it("loses kvatlas's choice where the route removes the header, and the gateway goes by it", async () => {
      const config = structuredClone(madeBy("envoy-ai-gateway"));
      for (const manager of managersOf(config)) {
        for (const { routes } of manager.route_config.virtual_hosts) {
          for (const route of routes) {
            route["request_headers_to_remove"] = ["x-gateway-destination-endpoint"];
          }
        }
      }
      const gateway = await frontOf(stack, config);
      const answer = await stack.post(gateway.listenAddress, {
        model: "lab-8b",
        prompt: [1, 2, 3],
      });
      await gateway.stop();
      expect([answer.status, answer.text]).toEqual([503, "no healthy upstream"]);
    });
  },
);

describe.skipIf(envoyBinary.isMissing)(`gateways without a router${envoyBinary.note}`, () => {
  let upstreams: TestUpstream[] = [];
  const body = Buffer.alloc(200_000, "x");

  beforeAll(async () => {
    upstreams = await Promise.all([startUpstream(), startUpstream()]);
  });
  afterAll(() => Promise.all(upstreams.map((upstream) => upstream.close())));

  const front = (config: EnvoyConfig): Promise<RunningEnvoy> =>
    start(config, {
      extProcAddress: NO_ROUTER,
      endpoints: upstreams.map((upstream) => upstream.address),
    });

  it.each([
    ["kvatlas-fail-open", readEnvoyFile(recipeFile("kvatlas-fail-open"))],
    ["Istio", istio],
    ["Envoy AI Gateway", aiGatewayOpen],
  ] as const)("%s fails open, and hands no client's destination on", async (_, config) => {
    const gateway = await front(config);
    const headers = { "x-gateway-destination-endpoint": "127.0.0.1:9" };
    const answer = await send({ address: gateway.listenAddress, path: "/echo", headers, body });
    await gateway.stop();
    expect(answer.status).toBe(200);
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.headers["x-chosen"]).toBe("");
  });

  it("Istio without the EnvoyFilter fails requests with a body, though it is to fail open", async () => {
    const gateway = await front(madeBy("istio"));
    const answer = await send({ address: gateway.listenAddress, path: "/echo", body });
    await gateway.stop();
    expect(answer.status).toBe(500);
  });

  it("Envoy AI Gateway fails closed", async () => {
    const gateway = await front(aiGateway);
    const answer = await send({ address: gateway.listenAddress, path: "/echo", body });
    await gateway.stop();
    expect(answer.status).toBe(500);
  });
});
