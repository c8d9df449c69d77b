import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { InitMessage, PodFacts, RouteMessage, SimulateMessage } from "./messages.ts";
import { RouterSession } from "./router-session.ts";

const MODEL = {
  ...{ prefill_s_per_token: 3e-5, attn_s_per_pair: 1e-9, decode_s_per_ctx_token: 4e-8 },
  ...{ step_base_s: 0.007, chunk_tokens: 8192, kv_bytes_per_token: 131_072 },
  ...{ cpu_bw: 25e9, disk_bw: 5e9 },
};

function pod(id: string, fields: Partial<PodFacts> = {}): PodFacts {
  return {
    ...{ id, state: "ready", role: "both", kv_tokens: 400_000, max_seqs: 256, tiers: ["gpu"] },
    ...fields,
  };
}

function session(pods: readonly PodFacts[], fields: Partial<InitMessage> = {}): RouterSession {
  const router = new RouterSession();
  const init = { op: "init", v: 1, t: 0, replica: 0, replicas: 1, block_size: 512 } as const;
  expect(router.handle({ ...init, pods, model: MODEL, ...fields })).toEqual({ ok: true });
  return router;
}

function route(id: number, fields: Partial<RouteMessage> = {}): RouteMessage {
  const blocks = Array.from({ length: 15 }, (_, block) => 100 * id + block);
  const prompt = { session: "1", input_tokens: 8000, blocks, exclude: [] };
  return { op: "route", t: 1, id, ...prompt, ...fields };
}

function podOf(answer: ReturnType<RouterSession["handle"]>): string {
  if (answer === null || !("pod" in answer) || answer.pod === null) throw new Error("no pod");
  return answer.pod;
}

const THREE = [pod("a"), pod("b"), pod("c")];

describe("RouterSession", () => {
  it("sends a prompt where its blocks are stored, and elsewhere once they are removed", () => {
    const kv = { op: "kv", t: 0.5, pod: "b", tier: "gpu" } as const;
    const { blocks } = route(1);
    const router = session(THREE);
    // A set: stored twice, removed once is gone.
    router.handle({ ...kv, type: "stored", blocks });
    router.handle({ ...kv, type: "stored", blocks });
    expect(router.handle(route(1))).toEqual({ pod: "b" });
    router.handle({ op: "finish", t: 2, id: 1, output_tokens: 5, ok: true });
    router.handle({ ...kv, type: "removed", blocks });
    const chosen = new Set(
      Array.from({ length: 12 }, (_, id) => router.handle(route(id + 2, { t: 3, blocks: [] }))),
    );
    expect([...chosen].map((answer) => JSON.stringify(answer))).toContain('{"pod":"a"}');
  });

  it("sends a prompt after one with the same beginning that is in flight, before any event", () => {
    const router = session(THREE);
    const first = router.handle(route(1));
    expect(router.handle(route(2, { t: 1.2, blocks: route(1).blocks }))).toEqual(first);
  });

  it("gives draining and gone pods no requests, nor those that refused", () => {
    const router = session(THREE);
    router.handle({ op: "pod", t: 1, pod: "a", state: "draining" });
    router.handle({ op: "pod", t: 1, pod: "b", state: "gone" });
    expect(router.handle(route(1))).toEqual({ pod: "c" });
    expect(router.handle(route(2, { exclude: ["c"] }))).toEqual({ pod: null });
    router.handle({ op: "pod", t: 2, pod: "b", state: "ready" });
    expect(router.handle(route(2, { t: 2, exclude: ["c"] }))).toEqual({ pod: "b" });
  });

  it("counts on at a draining pod what it serves", () => {
    const router = session([pod("a"), pod("b")]);
    const serving = podOf(router.handle(route(1)));
    router.handle({ op: "first_token", t: 1.1, id: 1 });
    router.handle({ op: "pod", t: 1.2, pod: serving, state: "draining" });
    const other = podOf(router.handle(route(2, { t: 1.3 })));
    expect(other).not.toBe(serving);
    router.handle({ op: "finish", t: 1.4, id: 2, output_tokens: 5, ok: true });
    router.handle({ op: "pod", t: 1.5, pod: serving, state: "ready" });
    // Request 1 still decodes there, and shares its steps.
    expect(router.handle(route(3, { t: 1.6 }))).toEqual({ pod: other });
    router.handle({ op: "finish", t: 1.7, id: 3, output_tokens: 5, ok: true });
    router.handle({ op: "finish", t: 1.7, id: 1, output_tokens: 5, ok: true });
    const later = Array.from({ length: 8 }, (_, id) => router.handle(route(10 + id, { t: 2 })));
    expect(later).toContainEqual({ pod: serving });
  });

  it("routes again what a dead pod had, and looks for none of its blocks there", () => {
    const { blocks } = route(1);
    const router = session(THREE);
    router.handle({ op: "kv", t: 0.5, pod: "b", tier: "gpu", type: "stored", blocks });
    expect(router.handle(route(1))).toEqual({ pod: "b" });
    router.handle({ op: "finish", t: 1.1, id: 1, output_tokens: 0, ok: false });
    router.handle({ op: "pod", t: 1.2, pod: "b", state: "gone" });
    const again = podOf(router.handle(route(1, { t: 1.3, exclude: ["b"] })));
    expect(["a", "c"]).toContain(again);
    router.handle({ op: "pod", t: 2, pod: "b", state: "ready" });
    // What runs at its new place is known to be there.
    expect(router.handle(route(2, { t: 2, blocks }))).toEqual({ pod: again });
  });

  it("gives a new pod few requests at once until it has answered its first ones", () => {
    const OLD = ["a", "b", "c", "d"];
    const herd = (warmUps: number): number => {
      const router = session([...OLD.map((id) => pod(id)), pod("new", { state: "gone" })]);
      let id = 0;
      const answer = (exclude: readonly string[], t: number): void => {
        id += 1;
        router.handle(route(id, { t, exclude: [...exclude] }));
        router.handle({ op: "first_token", t: t + 0.3, id });
        router.handle({ op: "finish", t: t + 0.3, id, output_tokens: 1, ok: true });
      };
      const all = [...OLD, "new"];
      const onlyAt = (name: string): string[] => all.filter((other) => other !== name);
      for (let turn = 0; turn < 16; turn += 1) answer(onlyAt(OLD[turn % 4] ?? ""), turn);
      router.handle({ op: "pod", t: 20, pod: "new", state: "ready" });
      for (let turn = 0; turn < warmUps; turn += 1) answer(OLD, 21 + turn);
      const taken = Array.from({ length: 25 }, (_, n) =>
        podOf(router.handle(route(1000 + n, { t: 30 }))),
      );
      return taken.filter((name) => name === "new").length;
    };
    expect(herd(3)).toBe(5);
    expect(herd(0)).toBeGreaterThan(0);
    expect(herd(0)).toBeLessThan(3);
    expect(herd(2)).toBeGreaterThan(herd(0));
  });

  it.each(["refuses", "breaks off"])(
    "keeps away from a pod that %s, until it has forgotten",
    (how) => {
      const router = session([pod("a"), pod("b")]);
      const name = podOf(router.handle(route(1)));
      if (how === "refuses") router.handle({ op: "refused", t: 1.01, id: 1, pod: name });
      else router.handle({ op: "finish", t: 1.01, id: 1, output_tokens: 0, ok: false });
      for (let id = 2; id < 5; id += 1) {
        expect(router.handle(route(id, { t: 1.02 }))).not.toEqual({ pod: name });
      }
      for (let id = 1; id < 5; id += 1) {
        router.handle({ op: "finish", t: 2, id, output_tokens: 1, ok: true });
      }
      const later = Array.from({ length: 8 }, (_, id) => router.handle(route(10 + id, { t: 60 })));
      expect(later).toContainEqual({ pod: name });
    },
  );

  it("holds a request while every pod is far behind, and lets it go in time", () => {
    const router = session([pod("a")]);
    for (let id = 0; id < 40; id += 1) router.handle(route(id));
    expect(router.handle(route(99))).toEqual({ pod: null });
    expect(router.handle(route(99, { t: 1.01 }))).toEqual({ pod: null });
    // Its queue has drained by then.
    expect(router.handle(route(99, { t: 3 }))).toEqual({ pod: "a" });
  });

  it("holds nothing while one of many pods says that it is far behind", () => {
    const names = Array.from({ length: 16 }, (_, number) => `p${number}`);
    const router = session(names.map((name) => pod(name)));
    const metrics = { op: "metrics", t: 1, scraped_at: 1, running: 0, kv_usage: 0 } as const;
    for (const name of names) {
      router.handle({ ...metrics, pod: name, waiting: name === "p3" ? 1_000_000 : 0 });
    }
    const answer = router.handle(route(1, { t: 1 }));
    expect(names.filter((name) => name !== "p3")).toContain(
      answer !== null && "pod" in answer ? answer.pod : null,
    );
  });

  it("names a prefill and a decode pod where requests are split", () => {
    const router = session([pod("p", { role: "prefill" }), pod("d", { role: "decode" })]);
    expect(router.handle(route(1))).toEqual({ pod: "p", decode_pod: "d" });
    router.handle({ op: "pod", t: 1, pod: "d", state: "gone" });
    expect(router.handle(route(2))).toEqual({ pod: null });
  });

  it("needs no decode pod for a pod of both roles", () => {
    const [a, p, d] = [pod("a"), pod("p", { role: "prefill" }), pod("d", { role: "decode" })];
    expect(session([a, p]).handle(route(1))).toEqual({ pod: "a" });
    const router = session([a, d]);
    expect(router.handle(route(1))).toEqual({ pod: "a" });
    router.handle({ op: "pod", t: 1, pod: "d", state: "draining" });
    expect(router.handle(route(2))).toEqual({ pod: "a" });
  });

  it("tells other replicas what it dispatched, and takes what they tell", () => {
    const first = session(THREE, { replicas: 2, replica: 0 });
    const second = session(THREE, { replicas: 2, replica: 1 });
    const answer = first.handle(route(1));
    if (answer === null || !("pod" in answer)) throw new Error("no answer");
    expect(answer.share).not.toContain('"');
    second.handle({ op: "peer", t: 1.005, share: answer.share ?? "" });
    const other = second.handle(route(2, { t: 1.005 }));
    expect(other).not.toMatchObject({ pod: answer.pod });
  });

  it("decides the same for the same messages, and lives through any of them in any order", () => {
    const name = fc.constantFrom("a", "b", "c", "nobody", "");
    const id = fc.nat(6);
    const t = fc.double({ min: -5, max: 60, noNaN: true });
    const blocks = fc.array(fc.nat(40), { maxLength: 8 });
    const state = fc.constantFrom("ready" as const, "draining" as const, "gone" as const);
    const op = <Op extends string>(value: Op): fc.Arbitrary<Op> => fc.constant(value);
    const message: fc.Arbitrary<SimulateMessage> = fc.oneof(
      fc.record({
        ...{ op: op("route"), t, id, session: op("s"), input_tokens: fc.nat(100_000), blocks },
        exclude: fc.array(name, { maxLength: 2 }),
      }),
      fc.record({ op: op("pod"), t, pod: name, state }),
      fc.record({
        ...{ op: op("kv"), t, pod: name, blocks },
        type: fc.constantFrom("stored" as const, "removed" as const),
        tier: fc.constantFrom("gpu" as const, "cpu" as const, "disk" as const),
      }),
      fc.record({
        ...{ op: op("metrics"), t, pod: name, scraped_at: t, waiting: fc.nat(99) },
        ...{ running: fc.nat(99), kv_usage: fc.double({ min: 0, max: 9, noNaN: true }) },
      }),
      fc.record({ op: op("first_token"), t, id }),
      fc.record({ op: op("progress"), t, pod: name, ids: fc.array(id), tokens: fc.nat(99) }),
      fc.record({ op: op("finish"), t, id, output_tokens: fc.nat(999), ok: fc.boolean() }),
      fc.record({ op: op("refused"), t, id, pod: name }),
      fc.record({ op: op("peer"), t, share: fc.string() }),
    );
    fc.assert(
      fc.property(fc.array(message, { maxLength: 80 }), (messages) => {
        const answers = (): unknown[] => {
          const router = session(THREE, { replicas: 2 });
          return messages.map((each) => {
            const answer = router.handle(each);
            expect(answer === null).toBe(each.op !== "route");
            return answer;
          });
        };
        expect(answers()).toEqual(answers());
      }),
    );
  });

  it("answers a route before init with no pod, and ignores everything else", () => {
    const router = new RouterSession();
    expect(router.handle(route(1))).toEqual({ pod: null });
    expect(router.handle({ op: "first_token", t: 1, id: 1 })).toBeNull();
    expect(router.handle({ op: "end" })).toBeNull();
  });
});
