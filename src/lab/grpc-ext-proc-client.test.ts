import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startUpstream, type TestUpstream } from "../../test/harness/test-upstream.ts";
import { waitUntil } from "../../test/harness/wait-until.ts";
import { endpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { extProcConfigSchema } from "../extproc/config.ts";
import { EVENTS_BATCH } from "../extproc/event-count.ts";
import { type ExtProcServer, startExtProcServer } from "../extproc/grpc-ext-proc.ts";
import type { Picker } from "../extproc/picker.ts";
import { ExtProcClient } from "./grpc-ext-proc-client.ts";

let upstream: TestUpstream;
let server: ExtProcServer;
let client: ExtProcClient;
const heard: unknown[] = [];

beforeAll(async () => {
  upstream = await startUpstream();
  const picker: Picker = {
    pick: (request) => {
      if (request.path === "/shed") {
        const message = "later";
        return Promise.resolve({ kind: "refuse", status: 429, reason: "overloaded", message });
      }
      const address = request.path === "/dead" ? "127.0.0.1:1" : upstream.address;
      return Promise.resolve({ kind: "route", endpointId: endpointId(address) });
    },
    pickByLoad: () => ({ kind: "route", endpointId: endpointId(upstream.address) }),
    responseStarted: (_, status, servedBy) => heard.push({ status, servedBy }),
    firstByte: () => heard.push("first-byte"),
    progressed: (_, tokens) => heard.push({ tokens }),
    ended: (_, end) => heard.push(end),
  };
  server = await startExtProcServer(
    extProcConfigSchema.parse({ listen: "127.0.0.1:0", healthListen: "127.0.0.1:0" }),
    { picker, clock: nodeClock, random: seededRandom(1), log: silentLog, meter: silentMeter },
  );
  client = new ExtProcClient(server.address);
});

afterAll(async () => {
  client.close();
  await server.stop();
  await upstream.close();
});

const request = { method: "POST", path: "/echo", headers: {}, body: Buffer.alloc(0) };

describe("ExtProcClient", () => {
  it("sends the request where the router says and gives the answer back", async () => {
    const body = Buffer.alloc(300_000, "abc");
    const answer = await client.send({ ...request, body });
    expect(answer).toMatchObject({ status: 200, endpoint: upstream.address });
    expect((await buffer(answer.body)).equals(body)).toBe(true);
  });

  it("lets the router see status, first byte, tokens and usage of a streamed answer", async () => {
    heard.length = 0;
    const answer = await client.send({ ...request, path: "/sse", body: Buffer.from("{}") });
    expect((await buffer(answer.body)).toString()).toContain("[DONE]");
    expect(heard).toEqual([
      { status: 200, servedBy: upstream.address },
      "first-byte",
      { tokens: EVENTS_BATCH },
      {
        outcome: "complete",
        usage: { promptTokens: 7, cachedTokens: 4, completionTokens: 10 },
      },
    ]);
  });

  it("gives a refusal as the answer", async () => {
    const answer = await client.send({ ...request, path: "/shed" });
    expect(answer).toMatchObject({ status: 429, endpoint: null });
    expect(answer.headers["x-kvatlas-refused"]).toBe("overloaded");
    expect((await buffer(answer.body)).toString()).toContain("later");
  });

  it("rejects when the endpoint cannot be reached, and the router hears of it", async () => {
    heard.length = 0;
    await expect(client.send({ ...request, path: "/dead" })).rejects.toThrow("ECONNREFUSED");
    await waitUntil("the abort", () => heard.length === 1);
    expect(heard).toEqual([{ outcome: "aborted", usage: null }]);
  });

  it("ends the request when the caller stops reading", async () => {
    heard.length = 0;
    const answer = await client.send({ ...request, method: "GET", path: "/sse" });
    answer.body.destroy();
    await waitUntil("the abort", () => heard.length >= 2);
    expect(heard.at(-1)).toMatchObject({ outcome: "aborted" });
  });
});
