/** A decision as a gateway meets it: a body of token ids in, the destination out, over real gRPC. */
import { type ChildProcess, fork } from "node:child_process";
import { nodeClock } from "../src/core/node-clock.ts";
import { loadExtProcPackage } from "../src/extproc/grpc-definition.ts";
import { percentiles, type ValueCase } from "./harness.ts";

const ENGINES = 4;
const FEED_BLOCKS_PER_SECOND = 1_000_000;
/** Envoy sends no larger body messages. */
const CHUNK_BYTES = 65_536;
const SAMPLE_MS = 4000;
const SETTLE_MS = 1500;

type Client = ReturnType<ReturnType<typeof loadExtProcPackage>["createClient"]>;

interface Edge {
  /** Resolves when the destination is told. */
  readonly decide: (body: Uint8Array) => Promise<void>;
  /** Blocks in applied events so far. */
  readonly blocks: () => Promise<number>;
  readonly stop: () => Promise<void>;
}

export function edgeCases(): ValueCase[] {
  return [
    edgeCase({ tokens: 2048, isFed: false }),
    edgeCase({ tokens: 2048, isFed: true }),
    edgeCase({ tokens: 32_768, isFed: false }),
  ];
}

function edgeCase({
  tokens,
  isFed,
}: {
  readonly tokens: number;
  readonly isFed: boolean;
}): ValueCase {
  const name = `edge.tokens.${tokens}`;
  return {
    ...(isFed ? { name: `${name}.during-ingest`, reference: name } : { name }),
    unit: "us",
    value: async (isQuick) => {
      const edge = await startEdge(isFed);
      const body = bodyOf(tokens);
      for (let warmup = 0; warmup < (isQuick ? 1 : 50); warmup += 1) await edge.decide(body);
      const samples: number[] = [];
      const [beganMs, before] = [nodeClock.nowMs(), await edge.blocks()];
      const endMs = beganMs + (isQuick ? 50 : SAMPLE_MS);
      while (nodeClock.nowMs() < endMs) {
        const startMs = nodeClock.nowMs();
        await edge.decide(body);
        samples.push(1000 * (nodeClock.nowMs() - startMs));
      }
      const seconds = (nodeClock.nowMs() - beganMs) / 1000;
      const rate = ((await edge.blocks()) - before) / seconds;
      if (isFed && !isQuick) process.stderr.write(`${Math.round(rate)} blocks/s were ingested\n`);
      await edge.stop();
      return percentiles(samples);
    },
  };
}

async function startEdge(isFed: boolean): Promise<Edge> {
  const feed = isFed ? await startFeed() : null;
  const router = child("./edge-router.ts", feed?.addresses ?? []);
  const { edge, admin } = await message<{ edge: string; admin: string }>(router);
  const client = loadExtProcPackage().createClient(edge);
  if (feed !== null) {
    await wait(SETTLE_MS);
    feed.process.send("go");
    await wait(SETTLE_MS);
  }
  return {
    decide: (body) => decide(client, body),
    blocks: async (): Promise<number> => {
      const text = await (await fetch(`http://${admin}/metrics`)).text();
      const counts = [...text.matchAll(/^kvatlas_events_blocks_total\{.*\} (\d+)$/gm)];
      return counts.reduce((sum, [, count]) => sum + Number(count), 0);
    },
    stop: async (): Promise<void> => {
      client.close();
      for (const each of [router, feed?.process]) {
        if (each === undefined) continue;
        const ended = new Promise((resolve) => each.once("exit", resolve));
        each.disconnect();
        await ended;
      }
    },
  };
}

async function startFeed(): Promise<{ process: ChildProcess; addresses: readonly string[] }> {
  const process = child("./edge-feed.ts", {
    ...{ engines: ENGINES, blocksPerSecond: FEED_BLOCKS_PER_SECOND },
  });
  const { addresses } = await message<{ addresses: readonly string[] }>(process);
  return { process, addresses };
}

function decide(client: Client, body: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = client.Process();
    stream.on("error", () => {});
    stream.on("data", ({ request_headers: headers, immediate_response: refusal }) => {
      if (refusal !== undefined) reject(new Error("the router refused"));
      if (headers === undefined) return;
      stream.cancel();
      resolve();
    });
    const header = (key: string, value: string): object => ({ key, raw_value: Buffer.from(value) });
    stream.write({
      request_headers: {
        headers: { headers: [header(":method", "POST"), header(":path", "/v1/completions")] },
      },
      protocol_config: {
        request_body_mode: "FULL_DUPLEX_STREAMED",
        response_body_mode: "FULL_DUPLEX_STREAMED",
      },
    });
    for (let at = 0; at < body.length; at += CHUNK_BYTES) {
      stream.write({ request_body: { body: body.subarray(at, at + CHUNK_BYTES) } });
    }
    stream.write({ request_body: { end_of_stream: true } });
  });
}

function bodyOf(tokens: number): Uint8Array {
  const prompt = Array.from({ length: tokens }, (_, at) => (at * 7919) % 128_000);
  return Buffer.from(JSON.stringify({ model: "bench", prompt, max_tokens: 1 }));
}

function child(file: string, argument: unknown): ChildProcess {
  return fork(new URL(file, import.meta.url), [JSON.stringify(argument)]);
}

function message<Message>(from: ChildProcess): Promise<Message> {
  return new Promise((resolve, reject) => {
    from.once("message", (each) => resolve(each as Message));
    from.once("exit", (code) => reject(new Error(`a process of the bench ended: ${code}`)));
  });
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => nodeClock.after(ms, resolve));
}
