/** `kvatlas events`: a live engine's messages to a capture, and what scripts read of it. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { XPublisher } from "zeromq";
import { nodeClock } from "../../src/core/node-clock.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import { jsonPayload, msgpackPayload, trtllmBlock } from "../harness/event-samples.ts";
import { promptOf } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const BIN = new URL("../../bin/kvatlas.js", import.meta.url).pathname;
const WAIT_MS = 30_000;
const folder = mkdtempSync(join(tmpdir(), "kvatlas-events-"));
let engine: LabEngine;

beforeAll(async () => {
  engine = await startLabEngine({ timeScale: 0, topic: "kv@pod" }, { clock: nodeClock });
});
afterAll(async () => {
  await engine.stop();
  rmSync(folder, { recursive: true, force: true });
});

function lines(...args: string[]): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [BIN, "events", ...args], (error, stdout) => {
      if (error !== null) reject(error);
      else
        resolve(
          stdout
            .trim()
            .split("\n")
            .map((line) => JSON.parse(line)),
        );
    });
  });
}

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => child.once("exit", (code) => resolve(code)));

async function complete(seed: number): Promise<void> {
  const answer = await fetch(`http://${engine.address}/v1/completions`, {
    method: "POST",
    body: JSON.stringify({ model: "lab-8b", prompt: promptOf(seed, 40), max_tokens: 1 }),
  });
  expect(answer.status).toBe(200);
  await answer.arrayBuffer();
}

describe("kvatlas events", () => {
  it("records a live engine until it is interrupted; the capture plays as what the engine holds", {
    timeout: 2 * WAIT_MS,
  }, async () => {
    const capture = join(folder, "capture.jsonl");
    const args = ["events", "record", "--zmq", engine.kvEventsAddress, "-o", capture];
    const child = spawn(process.execPath, [BIN, ...args], { stdio: "ignore" });
    const exit = ended(child);
    await waitUntil("it is connected", () => engine.subscriptions() > 0, WAIT_MS);
    for (let seed = 1; seed <= 5; seed += 1) await complete(seed);
    const written = (): string[] => readFileSync(capture, "utf8").split("\n").slice(0, -1);
    const seqLast = engine.publishedSeq();
    await waitUntil("all is written", () => written().length === seqLast + 1, WAIT_MS);
    child.kill("SIGINT");
    expect(await exit).toBe(0);
    // It holds prompts: nobody else may read it.
    expect(statSync(capture).mode & 0o077).toBe(0);
    const text = readFileSync(capture, "utf8");
    await expect(lines(...args.slice(1))).rejects.toThrow(/capture\.jsonl: .*--force/);
    expect(readFileSync(capture, "utf8")).toBe(text);
    const messages = written().map((line) => JSON.parse(line));
    expect(messages.map(({ topic, seq }) => [topic, seq])).toEqual(
      Array.from({ length: seqLast + 1 }, (_, seq) => ["kv@pod", seq]),
    );
    const decoded = (await lines("decode", capture)) as {
      readonly events: readonly { readonly type: string; readonly blockHashes: string[] }[];
    }[];
    const told = decoded.flatMap(({ events }) => events.flatMap((event) => event.blockHashes));
    const held = engine.cachedBlocks().map(({ engineHash }) => `${engineHash}`);
    expect(told.sort()).toEqual(held.sort());

    const prompts = join(folder, "prompts.json");
    writeFileSync(
      prompts,
      JSON.stringify([1, 9].map((seed) => ({ tokenIds: promptOf(seed, 40) }))),
    );
    const place = { state: "EXACT", reason: null };
    const none = { gpu: 0, cpu: 0, nvme: 0, shared: 0, any: 0 };
    expect(await lines("apply", capture, "--prompts", prompts)).toEqual([
      { prompt: 0, ...place, tokens: { ...none, gpu: 32, any: 32 } },
      { prompt: 1, ...place, tokens: none },
    ]);

    const again = spawn(process.execPath, [BIN, ...args, "--force"], { stdio: "ignore" });
    const end = ended(again);
    await waitUntil("it is connected again", () => engine.subscriptions() > 0, WAIT_MS);
    again.kill("SIGINT");
    expect(await end).toBe(0);
    expect(readFileSync(capture, "utf8")).toBe("");
  });

  it("records what has the form of a message, and says why others were refused", {
    timeout: WAIT_MS,
  }, async () => {
    const engineSocket = new XPublisher({ linger: 0 });
    await engineSocket.bind("tcp://127.0.0.1:*");
    const capture = join(folder, "odd.jsonl");
    const args = ["events", "record", "--zmq", engineSocket.lastEndpoint ?? "", "-o", capture];
    const child = spawn(process.execPath, [BIN, ...args], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (text) => {
      said += text;
    });
    const exit = ended(child);
    // Its subscription.
    await engineSocket.receive();
    const seq = (text: string): Buffer => Buffer.from(text, "hex");
    const [first, last] = [seq("0000000000000000"), seq("0000000000000001")];
    const topic = Buffer.from("a\u2028b");
    await engineSocket.send([topic, first, Buffer.of(0x90)]);
    await engineSocket.send([topic, first]);
    await engineSocket.send([topic, seq("0020000000000000"), Buffer.of(0x90)]);
    await engineSocket.send([topic, seq("00"), Buffer.of(0x90)]);
    await engineSocket.send([Buffer.of(0xff), last, Buffer.alloc(0)]);
    const written = (): string[] => readFileSync(capture, "utf8").split("\n").slice(0, -1);
    await waitUntil("both are written", () => written().length === 2, WAIT_MS);
    child.kill("SIGTERM");
    expect(await exit).toBe(0);
    engineSocket.close();
    expect(said).toContain("2 messages written");
    expect(said).toContain("3 refused: frame-count 1, sequence-frame 2");
    expect(await lines("decode", capture)).toMatchObject([
      { seq: 0, ts: null, events: [{ type: "skipped", reason: "malformed-batch" }] },
      { seq: 1, ts: null, events: [{ type: "skipped", reason: "not-msgpack" }] },
    ]);
  });

  it("applies what another engine than vLLM said", async () => {
    const file = join(folder, "trtllm.jsonl");
    const tokenIds = bytesOf(32);
    const stored = `{"type":"stored","parent_hash":null,"blocks":[${trtllmBlock("7", tokenIds)}]}`;
    const payload = jsonPayload(`[{"event_id":0,"data":${stored}}]`);
    const hex = Buffer.from(payload).toString("hex");
    writeFileSync(file, `${JSON.stringify({ topic: "", seq: 0, payload_hex: hex })}\n`);
    const prompts = join(folder, "trtllm-prompts.json");
    writeFileSync(prompts, JSON.stringify([{ tokenIds }]));
    const tokens = { gpu: 32, cpu: 0, nvme: 0, shared: 0, any: 32 };
    expect(await lines("apply", file, "--prompts", prompts, "--engine", "trtllm")).toEqual([
      { prompt: 0, state: "EXACT", reason: null, tokens },
    ]);
  });

  it("prints every form of hash, medium, extra and refusal as scripts expect it", async () => {
    const bytes = (length: number, fill: number): Uint8Array => new Uint8Array(length).fill(fill);
    const map = {
      ...{ type: "BlockStored", block_hashes: [7n], parent_block_hash: -2n, token_ids: [1, 2] },
      ...{ block_size: 2, lora_id: 3, medium: "Disk", lora_name: "a", group_idx: 2 },
      extra_keys: [["a", ["mm", -3], bytes(2, 0xde), 2n ** 53n + 1n, "salt", 5n]],
    };
    const hashes = [-1n, 5, 2n ** 64n - 1n, bytes(32, 1), bytes(16, 2)];
    const removed = { type: "BlockRemoved", block_hashes: [7n, bytes(32, 255)], medium: "odd" };
    const payloads = [
      msgpackPayload([1.5, [["BlockStored", hashes, null, bytesOf(10), 2, null]], 0]),
      msgpackPayload([1.5, [map, removed, { type: "AllBlocksCleared" }, { type: "Other" }, 5]]),
      Uint8Array.of(0xc1),
      msgpackPayload([2.5, [["BlockRemoved", [1]]], null]),
      msgpackPayload([2, [], 3]),
    ];
    const file = join(folder, "made.jsonl");
    const text = payloads.map((payload, seq) => {
      const hex = Buffer.from(payload).toString("hex");
      return `${JSON.stringify({ topic: "", seq, payload_hex: hex })}\n`;
    });
    writeFileSync(file, text.join(""));
    const plain = { loraName: null, loraId: null, group: null, extraKeys: null };
    const all = "18446744073709551615";
    expect(await lines("decode", file)).toEqual([
      {
        ...{ seq: 0, ts: 1.5, rank: 0 },
        events: [
          {
            type: "stored",
            blockHashes: [all, "5", all, "72340172838076673", "144680345676153346"],
            ...{ parentHash: null, tokenIds: bytesOf(10), blockSize: 2, tier: "gpu", medium: null },
            ...plain,
          },
        ],
      },
      {
        ...{ seq: 1, ts: 1.5, rank: null },
        events: [
          {
            ...{ type: "stored", blockHashes: ["7"], parentHash: "18446744073709551614" },
            ...{ tokenIds: [1, 2], blockSize: 2, tier: "nvme", medium: "Disk" },
            ...{ loraName: "a", loraId: 3, group: 2 },
            extraKeys: [["a", ["mm", -3], "0xdede", "9007199254740993", "salt", 5]],
          },
          { type: "removed", blockHashes: ["7", all], tier: "unknown", group: null },
          { type: "cleared" },
          { type: "skipped", reason: "unknown-tag" },
          { type: "skipped", reason: "malformed-event" },
        ],
      },
      { seq: 2, ts: null, rank: null, events: [{ type: "skipped", reason: "not-msgpack" }] },
      {
        ...{ seq: 3, ts: 2.5, rank: null },
        events: [{ type: "removed", blockHashes: ["1"], tier: "gpu", group: null }],
      },
      { seq: 4, ts: 2, rank: 3, events: [] },
    ]);
  });
});

const bytesOf = (length: number): number[] => Array.from({ length }, (_, at) => at + 1);
