import { describe, expect, it } from "vitest";
import { nodeClock } from "../core/node-clock.ts";
import { startChild } from "./process-child.ts";

const node = { name: "child", command: process.execPath, clock: nodeClock } as const;
const wait = 'require("node:net").createServer().listen(0);';

describe("startChild", () => {
  it("is ready at the named line and ends at SIGTERM", async () => {
    const child = await startChild({
      ...node,
      args: ["-e", `process.stdout.write("starting\\nready\\n"); ${wait}`],
      isReadyLine: (line) => line === "ready",
    });
    expect(child.pid).toBeGreaterThan(0);
    expect(child.outputTail()).toContain("ready");
    await child.stop();
    await child.exited;
  });

  it("is ready when polling says so", async () => {
    let asked = 0;
    const isReady = (): Promise<boolean> => {
      asked += 1;
      return asked < 3 ? Promise.reject(new Error("not yet")) : Promise.resolve(true);
    };
    const child = await startChild({ ...node, args: ["-e", wait], isReady });
    expect(asked).toBe(3);
    await child.kill();
  });

  it("kills a child that ignores SIGTERM", async () => {
    const child = await startChild({
      ...node,
      args: ["-e", `process.on("SIGTERM", () => {}); process.stdout.write("ready\\n"); ${wait}`],
      isReadyLine: (line) => line === "ready",
      stopMs: 50,
    });
    await child.stop();
  });

  it("tells how a child ended before it was ready, with its last output", async () => {
    const args = ["-e", 'process.stderr.write("no such thing\\n"); process.exit(3)'];
    await expect(startChild({ ...node, args, isReadyLine: () => false })).rejects.toMatchObject({
      code: "ERR_PROCESS_FAILED",
      message: "child ended with 3 before it was ready; its last output:\nno such thing\n".trim(),
    });
  });

  it("tells that a program does not exist", async () => {
    const started = startChild({ ...node, command: "/no/such/program", args: [] });
    await expect(started).rejects.toMatchObject({ code: "ERR_PROCESS_FAILED" });
  });

  it("ends a child that is not ready in time", async () => {
    const args = ["-e", wait];
    const started = startChild({ ...node, args, isReadyLine: () => false, readyMs: 100 });
    await expect(started).rejects.toMatchObject({ code: "ERR_TIMEOUT" });
  });
});
