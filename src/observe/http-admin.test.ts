import { once } from "node:events";
import net from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { silentLog } from "../core/log.ts";
import { HttpAdmin, type HttpAdminDeps } from "./http-admin.ts";

const servers: HttpAdmin[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
});

function admin(deps: Partial<HttpAdminDeps> = {}): HttpAdmin {
  const server = new HttpAdmin({
    log: silentLog,
    metrics: () => Promise.resolve({ contentType: "text/plain", body: "up 1\n" }),
    readyChecks: () => [],
    ...deps,
  });
  servers.push(server);
  return server;
}

async function started(deps: Partial<HttpAdminDeps> = {}): Promise<string> {
  return `http://${await admin(deps).start("127.0.0.1:0")}`;
}

describe("HttpAdmin", () => {
  it("serves metrics as they are handed in", async () => {
    const answer = await fetch(`${await started()}/metrics`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe("text/plain");
    expect(await answer.text()).toBe("up 1\n");
  });

  it("is alive while it is not ready, and lists every check", async () => {
    const checks = [
      { name: "index", isOk: true, detail: "12 blocks" },
      { name: "fleet", isOk: false, detail: "no ready endpoint" },
    ];
    const base = await started({ readyChecks: () => checks });
    expect((await fetch(`${base}/healthz`)).status).toBe(200);
    const notReady = await fetch(`${base}/readyz`);
    expect(notReady.status).toBe(503);
    expect(await notReady.json()).toEqual({ isReady: false, checks });
    checks.pop();
    const ready = await fetch(`${base}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([200, { isReady: true, checks }]);
  });

  it("serves the routes that it is given, with their query", async () => {
    const base = await started({
      routes: [{ path: "/debug/x", handle: (url) => ({ status: 202, body: { q: url.search } }) }],
    });
    const answer = await fetch(`${base}/debug/x?a=1`);
    expect([answer.status, await answer.json()]).toEqual([202, { q: "?a=1" }]);
  });

  it("hands a body within its bound to a route that takes one", async () => {
    const base = await started({
      routes: [
        {
          path: "/count",
          bodyBytesMax: 8,
          handle: (_, body) => ({ status: 200, body: body.length }),
        },
      ],
    });
    const post = (bytes: number): Promise<Response> =>
      fetch(`${base}/count`, { method: "POST", body: new Uint8Array(bytes) });
    expect(await (await post(8)).json()).toBe(8);
    expect((await post(9)).status).toBe(413);
    expect((await post(1_000_000)).status).toBe(413);
    const got = await fetch(`${base}/count`);
    expect([got.status, got.headers.get("allow")]).toEqual([405, "POST"]);
    expect(await (await post(0)).json()).toBe(0);
  });

  it("refuses unknown paths and methods in JSON", async () => {
    const base = await started();
    const unknown = await fetch(`${base}/nothing`);
    expect(unknown.status).toBe(404);
    expect(await unknown.json()).toMatchObject({ paths: ["/metrics", "/healthz", "/readyz"] });
    const posted = await fetch(`${base}/metrics`, { method: "POST", body: "x" });
    expect([posted.status, posted.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    const head = await fetch(`${base}/metrics`, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
  });

  it("answers 500 when a route fails, and goes on", async () => {
    const base = await started({
      routes: [
        {
          path: "/debug/x",
          handle: () => {
            throw new Error("secret detail");
          },
        },
      ],
    });
    const answer = await fetch(`${base}/debug/x`);
    expect(answer.status).toBe(500);
    expect(await answer.text()).not.toContain("secret");
    expect((await fetch(`${base}/healthz`)).status).toBe(200);
  });

  it("names the address that is taken", async () => {
    const address = await admin().start("127.0.0.1:0");
    await expect(admin().start(address)).rejects.toMatchObject({
      code: "ERR_PORT_IN_USE",
      message: expect.stringContaining(address),
    });
  });

  it("lets no request take longer than its time, so that others find a place", async () => {
    const { hostname, port } = new URL(await started());
    const slow = net.connect(Number(port), hostname, () => slow.write("GET /metrics HTTP/1.1\r\n"));
    const answer: Buffer[] = [];
    slow.on("data", (chunk) => answer.push(chunk));
    await once(slow, "close");
    expect(Buffer.concat(answer).toString()).toMatch(/^HTTP\/1.1 408 /);
  }, 20_000);

  it("stops at once, also with a kept connection open", async () => {
    const server = admin();
    const base = `http://${await server.start("127.0.0.1:0")}`;
    await (await fetch(`${base}/healthz`)).text();
    await server.stop();
    await expect(fetch(`${base}/healthz`)).rejects.toThrow();
    await server.stop();
  });
});
