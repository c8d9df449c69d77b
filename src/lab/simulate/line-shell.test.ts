import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LineShell } from "./line-shell.ts";
import type { CountingRouter } from "./messages.ts";
import { RouterSession } from "./router-session.ts";

/** Sends everything to p0. */
const ONE_POD: CountingRouter = {
  ignoredMessages: 0,
  handle: ({ op }) => (op === "init" ? { ok: true } : op === "route" ? { pod: "p0" } : null),
};

const ROUTE = '{"op":"route","t":1,"id":0,"session":"1","input_tokens":9,"blocks":[],"exclude":[]}';

describe("LineShell", () => {
  it("answers what asks, and nothing else", () => {
    const shell = new LineShell(ONE_POD);
    expect(shell.line(ROUTE)).toEqual({ kind: "answer", text: '{"pod":"p0"}' });
    expect(shell.line('{"op":"first_token","t":1,"id":0}')).toEqual({ kind: "nothing" });
    expect(shell.line('{"op":"end"}')).toEqual({ kind: "end" });
    expect(shell.report()).toBe("");
  });

  it("ends at a line that is not JSON, and names it", () => {
    const shell = new LineShell(ONE_POD);
    shell.line(ROUTE);
    shell.line("");
    const outcome = shell.line('{"op":');
    expect(outcome).toMatchObject({ kind: "failed" });
    expect(outcome).toHaveProperty("detail", expect.stringMatching(/^line 3: not JSON/));
  });

  it("counts what it does not know, and answers a route that it cannot read", () => {
    const shell = new LineShell(ONE_POD);
    expect(shell.line('{"op":"dance"}')).toEqual({ kind: "nothing" });
    expect(shell.line('{"op":"route","t":1}')).toEqual({ kind: "answer", text: '{"pod":null}' });
    expect(shell.line('{"op":"kv","t":1}')).toEqual({ kind: "nothing" });
    shell.line('{"op":"first_token","t":1,"id":0,"why":"because"}');
    expect(shell.report()).toBe(
      "ignored: 1 unknown ops, 1 unknown fields, 2 messages with fields that are not of their form",
    );
  });

  it("tells of messages before init and about pods that it did not name", () => {
    const shell = new LineShell(new RouterSession());
    expect(shell.line(ROUTE)).toEqual({ kind: "answer", text: '{"pod":null}' });
    const init = { op: "init", v: 1, t: 0, block_size: 16, pods: [{ id: "p0" }], model: {} };
    shell.line(JSON.stringify(init));
    for (const pod of ["p0", "p1"]) {
      shell.line(JSON.stringify({ op: "pod", t: 1, pod, state: "draining" }));
      shell.line(JSON.stringify({ op: "metrics", t: 1, pod, scraped_at: 1 }));
      shell.line(JSON.stringify({ op: "refused", t: 1, id: 7, pod }));
      const kv = { op: "kv", t: 1, pod, type: "stored", tier: "gpu", blocks: [1] };
      shell.line(JSON.stringify(kv));
    }
    expect(shell.report()).toBe("ignored: 5 messages before init or about unknown pods");
  });

  it("ends at an init that cannot be used", () => {
    const outcome = new LineShell(ONE_POD).line('{"op":"init","v":2}');
    expect(outcome).toMatchObject({ kind: "failed", detail: expect.stringContaining("line 1") });
  });

  it("starts with any model, or names the line, and decides in finite time", () => {
    const names = ["prefill_s_per_token", "attn_s_per_pair", "decode_s_per_ctx_token"];
    const others = ["step_base_s", "chunk_tokens", "kv_bytes_per_token", "cpu_bw", "disk_bw"];
    const fact = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.constantFrom(1e300, 1e-320, 0, 1e-15, 1e15),
    );
    const model = fc.dictionary(fc.constantFrom(...names, ...others), fact);
    const pods = [{ id: "p0" }, { id: "p1" }];
    const init = { op: "init", v: 1, t: 0, replica: 0, replicas: 2, block_size: 16, pods };
    fc.assert(
      fc.property(model, fact, (facts, t) => {
        const shell = new LineShell(new RouterSession());
        const started = shell.line(JSON.stringify({ ...init, model: facts }));
        if (started.kind === "failed") expect(started.detail).toMatch(/^line 1: /);
        else expect(started).toEqual({ kind: "answer", text: '{"ok":true}' });
        shell.line(JSON.stringify({ op: "first_token", t, id: 0 }));
        expect(shell.line(ROUTE).kind).toBe("answer");
      }),
    );
  });
});
