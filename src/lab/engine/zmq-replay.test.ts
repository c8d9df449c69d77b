import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { Dealer, Request } from "zeromq";
import { silentLog } from "../../core/log.ts";
import { ReplayBuffer, type ReplayForm } from "./replay-buffer.ts";
import { seqFrame } from "./seq-frame.ts";
import { ZmqReplay } from "./zmq-replay.ts";

const GOLDEN = new URL("../../../test/golden/", import.meta.url);

interface Exchange {
  readonly socket?: "DEALER" | "REQ";
  readonly start_seq: number;
  readonly reply_messages_frames_hex: readonly (readonly string[])[];
}

interface Exchanges {
  readonly buffer_steps: number;
  readonly exchanges: readonly Exchange[];
}

const open: { close(): void }[] = [];
const replays: ZmqReplay[] = [];

afterEach(async () => {
  for (const socket of open.splice(0)) socket.close();
  for (const replay of replays.splice(0)) await replay.stop();
});

async function start(form: ReplayForm, buffer: ReplayBuffer): Promise<ZmqReplay> {
  const options = { port: 0, form, topic: "kv-events" };
  const replay = await ZmqReplay.bind(options, { buffer, log: silentLog });
  replays.push(replay);
  return replay;
}

function dealer(replay: ZmqReplay): Dealer {
  const socket = new Dealer({ linger: 0 });
  open.push(socket);
  socket.connect(replay.address);
  return socket;
}

const hex = (frames: readonly Buffer[]): string[] => frames.map((frame) => frame.toString("hex"));

describe("ZmqReplay", () => {
  it.each([
    ["vllm-0.11.2", "seq"],
    ["vllm-0.33.0", "topic-seq"],
    ["sglang-0.5.23", "topic-seq"],
  ] as const)("answers frame for frame as %s did", async (engine, form) => {
    const read = (file: string): string =>
      readFileSync(new URL(`${engine}/${file}`, GOLDEN), "utf8");
    const golden = JSON.parse(read("j_replay.exchanges.json")) as Exchanges;
    const buffer = new ReplayBuffer(golden.buffer_steps);
    for (const line of read("j_replay.jsonl").trim().split("\n")) {
      const { seq, payload_hex } = JSON.parse(line) as { seq: number; payload_hex: string };
      buffer.push(seq, Buffer.from(payload_hex, "hex"));
    }
    const replay = await start(form, buffer);
    expect(golden.exchanges.length).toBeGreaterThan(0);
    for (const exchange of golden.exchanges) {
      const start = seqFrame(exchange.start_seq);
      const wanted = exchange.reply_messages_frames_hex;
      if (exchange.socket === "REQ") {
        const socket = new Request({ linger: 0 });
        open.push(socket);
        socket.connect(replay.address);
        await socket.send([start]);
        expect([hex(await socket.receive())]).toEqual(wanted);
        continue;
      }
      const socket = dealer(replay);
      await socket.send([Buffer.alloc(0), start]);
      const replies: string[][] = [];
      while (replies.length < wanted.length) replies.push(hex(await socket.receive()));
      expect(replies).toEqual(wanted);
    }
  });

  it("ignores requests of another number of frames, and answers the next one", async () => {
    const replay = await start("seq", new ReplayBuffer(3));
    const socket = dealer(replay);
    await socket.send([seqFrame(0)]);
    await socket.send([Buffer.alloc(0), seqFrame(0), Buffer.alloc(0)]);
    await socket.send([Buffer.alloc(0), Buffer.alloc(0)]);
    expect(hex(await socket.receive())).toEqual(["", "ffffffffffffffff", ""]);
    expect([replay.ignored, replay.served]).toEqual([2, 1]);
  });
});

describe("ReplayBuffer", () => {
  it("keeps the newest batches in the order of publication, whatever their numbers", () => {
    const buffer = new ReplayBuffer(3);
    const seqs = (startSeq: bigint): bigint[] =>
      buffer
        .replies(startSeq, { form: "seq", topic: Buffer.alloc(0) })
        .slice(0, -1)
        .map(([, seq]) => Buffer.from(seq ?? []).readBigUInt64BE());
    for (const seq of [0, 1, 2, 3, 4]) buffer.push(seq, Buffer.from([seq]));
    expect(seqs(0n)).toEqual([2n, 3n, 4n]);
    expect(seqs(4n)).toEqual([4n]);
    buffer.push(0, Buffer.from([0]));
    expect(seqs(0n)).toEqual([3n, 4n, 0n]);
    expect(seqs(1n)).toEqual([3n, 4n]);
  });
});
