/** Two routers that tell each other over NATS what they dispatch, and what `kvatlas why` says of it. */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "@nats-io/transport-node";
import { afterEach, beforeEach, expect, it } from "vitest";
import { nodeClock } from "../../src/core/node-clock.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import { ExtProcClient } from "../../src/lab/grpc-ext-proc-client.ts";
import type { DecisionRecord } from "../../src/router/decision-record.ts";
import { requireBinary } from "../harness/binaries.ts";
import { freePort } from "../harness/free-port.ts";
import type { TestEndpoint } from "../harness/kvatlas-process.ts";
import { NatsServer } from "../harness/nats-server.ts";
import { RelayProcess } from "../harness/relay-process.ts";
import { RouterProcess } from "../harness/router-process.ts";
import { promptOf } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const BIN = new URL("../../bin/kvatlas.js", import.meta.url).pathname;
const SUBJECT = "kvatlas.gossip.default%3Alab-8b";
const WAIT_MS = 20_000;
const nats = await requireBinary("nats-server");
const stops: (() => unknown)[] = [];

let server: NatsServer;
let engines: LabEngine[];
let routers: RouterProcess[];
let clients: ExtProcClient[];

beforeEach(async () => {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-gossip-"));
  stops.push(() => rmSync(folder, { recursive: true, force: true }));
  server = new NatsServer(nats.path, await freePort());
  stops.push(() => server.stop());
  await server.start();
  engines = [];
  for (let number = 0; number < 2; number += 1) {
    // A prompt of 4,000 tokens takes four seconds: long enough to be seen in flight.
    const engine = await startLabEngine(
      { timeScale: 1, prefillSecondsPerToken: 0.001 },
      { clock: nodeClock },
    );
    stops.push(() => engine.stop());
    engines.push(engine);
  }
  const endpoints = engines.map(
    ({ address, kvEventsAddress }, number): TestEndpoint => ({
      ...{ name: `pod-${number}`, address, kvEvents: { address: kvEventsAddress } },
    }),
  );
  const events = { transport: "nats", relay: "separate", nats: { servers: [server.address] } };
  const relay = await RelayProcess.start({ folder, endpoints, config: { events } });
  stops.push(() => relay.stop());
  const config = { events, router: { prefillTokensPerSecond: 1000 } };
  routers = [];
  clients = [];
  for (const name of ["a", "b"]) {
    mkdirSync(join(folder, name));
    const router = await RouterProcess.start({
      ...{ folder: join(folder, name), endpoints, config },
    });
    stops.push(() => router.stop());
    routers.push(router);
    const client = new ExtProcClient(router.extProcAddress);
    stops.push(() => client.close());
    clients.push(client);
  }
}, 60_000);
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

function router(number: number): RouterProcess {
  const found = routers[number];
  if (found === undefined) throw new Error(`no router ${number}`);
  return found;
}

/** Resolves with the status once the whole answer is there. */
async function complete(number: number, id: string, tokens: readonly number[]): Promise<number> {
  const answer = await clients[number]?.send({
    ...{ method: "POST", path: "/v1/completions" },
    headers: { "content-type": "application/json", "x-request-id": id },
    body: Buffer.from(JSON.stringify({ model: "lab-8b", prompt: tokens, max_tokens: 1 })),
  });
  for await (const _ of answer?.body ?? []) {
    // Only its end is of interest.
  }
  return answer?.status ?? 0;
}

async function decisionOf(number: number, id: string): Promise<DecisionRecord | null> {
  const answer = await fetch(`http://${router(number).adminAddress}/why?id=${id}`);
  return ((await answer.json()) as { decision: DecisionRecord | null }).decision;
}

async function heard(number: number, text: string): Promise<boolean> {
  return (await router(number).ready()).text.includes(text);
}

const messages = (number: number, outcome: string): Promise<number> =>
  router(number).metric("kvatlas_gossip_messages_total", `outcome="${outcome}"`);

function why(...args: string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [BIN, "why", ...args], (_, stdout, stderr) => {
      resolve({ code: child.exitCode, output: stdout + stderr });
    });
  });
}

it("a router counts what the other has sent, and why says so", { timeout: 90_000 }, async () => {
  for (const number of [0, 1]) {
    await waitUntil("both are heard", () => heard(number, "1 other routers are heard"), WAIT_MS);
  }
  const first = complete(0, "a1", promptOf(1, 4000));
  await waitUntil("a1 is decided", async () => (await decisionOf(0, "a1")) !== null, WAIT_MS);
  const busy = (await decisionOf(0, "a1"))?.chosen.endpoint;
  const taken = await messages(1, "taken");
  await waitUntil("the other was told", async () => (await messages(1, "taken")) > taken + 1);

  const second = complete(1, "b1", promptOf(2, 4000));
  await waitUntil("b1 is decided", async () => (await decisionOf(1, "b1")) !== null, WAIT_MS);
  const decision = await decisionOf(1, "b1");
  expect(decision?.chosen.endpoint).not.toBe(busy);
  const other = decision?.candidates.find(({ endpoint }) => endpoint === busy);
  expect(other?.termsMs.queue).toBeGreaterThan(decision?.chosen.termsMs.queue ?? 0);
  expect(await Promise.all([first, second])).toEqual([200, 200]);

  const url = `http://${router(1).adminAddress}`;
  const told = await why("b1", "--url", url);
  expect(told.code).toBe(0);
  expect(told.output).toContain(`b1: ${decision?.chosen.endpoint} (cheapest)`);
  expect(told.output).toMatch(new RegExp(`^chosen +${decision?.chosen.endpoint} `, "m"));
  expect(told.output).toMatch(new RegExp(`^next +${busy} `, "m"));
  expect(told.output).toMatch(/it would have been taken with .*queue \([\d.]+ ms less\)/);
  const json = await why("b1", "--url", url, "-o", "json");
  expect(JSON.parse(json.output)).toEqual(decision);
  // Another router's request, and one that never was.
  const unknown = await why("a1", "--url", url);
  expect(unknown).toMatchObject({ code: 1, output: expect.stringContaining("DECISION_UNKNOWN") });
  const nobody = await why("b1", "--url", `http://127.0.0.1:${await freePort()}`);
  expect(nobody).toMatchObject({ code: 2, output: expect.stringContaining("ADMIN_UNREACHABLE") });
});

it("goes on without NATS, hears again when it is back, and refuses what is no gossip", {
  timeout: 90_000,
}, async () => {
  await waitUntil("both are heard", () => heard(0, "1 other routers are heard"), WAIT_MS);
  const stranger = await connect({ servers: [server.address] });
  stranger.publish(SUBJECT, "no gossip");
  stranger.publish(SUBJECT, `x;${"y".repeat(400_000)}`);
  stranger.publish(
    SUBJECT,
    Uint8Array.from({ length: 1000 }, (_, index) => index % 256),
  );
  await stranger.flush();
  await stranger.close();
  await waitUntil("garbage is refused", async () => (await messages(0, "form")) >= 2, WAIT_MS);
  expect(await messages(0, "oversized")).toBe(1);

  await server.kill();
  await waitUntil("it says so", () => heard(0, "DEGRADED: NATS is not connected"), WAIT_MS);
  expect(await router(0).metric("kvatlas_gossip_connected")).toBe(0);
  expect(await complete(0, "alone", promptOf(3, 64))).toBe(200);
  expect(await complete(1, "alone too", promptOf(4, 64))).toBe(200);

  const before = await messages(0, "taken");
  await server.start();
  await waitUntil("it is heard again", async () => (await messages(0, "taken")) > before, WAIT_MS);
});
