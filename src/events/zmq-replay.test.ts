import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { Router } from "zeromq";
import { nodeClock } from "../core/node-clock.ts";
import type { EventMessage } from "./frames.ts";
import { parseReply, replayZmqEvents } from "./zmq-replay.ts";
import { MESSAGE_BYTES_MAX } from "./zmq-subscriber.ts";

interface Exchange {
  /** Absent where the capture tells no kind of socket: a DEALER then. */
  readonly socket?: string;
  readonly start_seq: number;
  readonly request_frames_hex?: readonly string[];
  readonly reply_messages_frames_hex: readonly (readonly string[])[];
}

const ENGINES = ["vllm-0.11.2", "vllm-0.33.0", "sglang-0.5.23"];
const exchangesOf = (engine: string): Exchange[] => {
  const file = new URL(`../../test/golden/${engine}/j_replay.exchanges.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")).exchanges.filter(
    ({ socket = "DEALER" }: Exchange) => socket === "DEALER",
  );
};
const bytes = (hex: string): Buffer => Buffer.from(hex, "hex");
const NEVER = new AbortController().signal;
const routers: Router[] = [];
afterEach(() => {
  for (const router of routers.splice(0)) router.close();
});

/** A replay socket that answers with these replies, each a list of frames. */
async function engine(replies: readonly (readonly Buffer[])[]): Promise<{
  address: string;
  request: Promise<Buffer[]>;
}> {
  const router = new Router({ linger: 0 });
  routers.push(router);
  await router.bind("tcp://127.0.0.1:*");
  const request = (async (): Promise<Buffer[]> => {
    const [identity, ...frames] = await router.receive();
    for (const reply of replies) await router.send([identity ?? "", ...reply]);
    return frames;
  })();
  return { address: router.lastEndpoint ?? "", request };
}

describe("replay", () => {
  it.each(ENGINES)("understands the recorded exchanges of %s", async (name) => {
    const exchanges = exchangesOf(name);
    expect(exchanges.length).toBeGreaterThan(0);
    for (const exchange of exchanges) {
      const replies = exchange.reply_messages_frames_hex.map((frames) => frames.map(bytes));
      const { address, request } = await engine(replies);
      const heard: EventMessage[] = [];
      const outcome = await replayZmqEvents(
        { address, fromSeq: exchange.start_seq },
        { clock: nodeClock, onMessage: (message) => heard.push(message), signal: NEVER },
      );
      expect(outcome).toBe("ended");
      const seqHex = exchange.start_seq.toString(16).padStart(16, "0");
      const asked = (await request).map((frame) => frame.toString("hex"));
      expect(asked).toEqual(exchange.request_frames_hex ?? ["", seqHex]);
      expect(heard.map(({ payload }) => Buffer.from(payload).toString("hex"))).toEqual(
        exchange.reply_messages_frames_hex.slice(0, -1).map((frames) => frames.at(-1)),
      );
      for (const { seq } of heard) expect(seq).toBeGreaterThanOrEqual(exchange.start_seq);
    }
  });

  it("fails on an answer that is none, and when the signal ends it", async () => {
    const { address } = await engine([[Buffer.alloc(0), Buffer.from("what?")]]);
    const onMessage = (): void => {};
    expect(
      await replayZmqEvents(
        { address, fromSeq: 0 },
        { clock: nodeClock, onMessage, signal: NEVER },
      ),
    ).toBe("failed");
    const silent = await engine([]);
    const abort = new AbortController();
    const replay = replayZmqEvents(
      { address: silent.address, fromSeq: 0 },
      { clock: nodeClock, onMessage, signal: abort.signal },
    );
    await silent.request;
    abort.abort();
    expect(await replay).toBe("failed");
  });

  it("takes no message beyond what a subscription takes", async () => {
    const seq = Buffer.alloc(8);
    const { address } = await engine([[Buffer.alloc(0), seq, Buffer.alloc(MESSAGE_BYTES_MAX + 1)]]);
    const abort = new AbortController();
    routers[0]?.events.on("disconnect", () => abort.abort());
    const heard: EventMessage[] = [];
    const onMessage = (message: EventMessage): void => {
      heard.push(message);
      abort.abort();
    };
    const deps = { clock: nodeClock, onMessage, signal: abort.signal };
    expect(await replayZmqEvents({ address, fromSeq: 0 }, deps)).toBe("failed");
    expect(heard.length).toBe(0);
  });

  it("refuses replies of other shapes", () => {
    const seq = Buffer.from("0000000000000007", "hex");
    const none = Buffer.alloc(0);
    expect(parseReply([none, seq, none])).toMatchObject({ ok: true, value: { seq: 7 } });
    expect(parseReply([seq, none])).toMatchObject({ reason: "frame-count" });
    expect(parseReply([none, none, none, seq, none])).toMatchObject({ reason: "frame-count" });
    expect(parseReply([none, seq.subarray(1), none])).toMatchObject({ reason: "sequence-frame" });
    const beyond = Buffer.from("7fffffffffffffff", "hex");
    expect(parseReply([none, beyond, none])).toMatchObject({ reason: "sequence-frame" });
  });
});
