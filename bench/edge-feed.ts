/**
 * Engines that store and remove chains as fast as is asked, as a process of its own: messages are made
 * once and sent again and again, so that the sender is not what is measured.
 */
import { encode } from "@msgpack/msgpack";
import { Publisher } from "zeromq";
import { BLOCK, tokensOf } from "./workload.ts";

const CHAINS = 16;
const CHAIN_BLOCKS = 512;
const EVENT_BLOCKS = 32;
const TURN_MS = 2;

/** Chain `chain`, stored in events of 32 blocks, as vLLM from 0.17 tells it. */
function stored(chain: number): Uint8Array {
  const tokens = tokensOf(CHAIN_BLOCKS).map((token) => (token + 7919 * chain) % 128_000);
  const events = Array.from({ length: CHAIN_BLOCKS / EVENT_BLOCKS }, (_, event) => {
    const from = event * EVENT_BLOCKS;
    const part = tokens.subarray(from * BLOCK, (from + EVENT_BLOCKS) * BLOCK);
    const handles = handlesOf(chain, from, EVENT_BLOCKS);
    const parent = from === 0 ? null : handleOf(chain, from - 1);
    const told = [null, "GPU", null, handles.map(() => null)];
    return ["BlockStored", handles, parent, [...part], BLOCK, ...told];
  });
  return encode([0.5, events, 0], { useBigInt64: true });
}

function removed(chain: number): Uint8Array {
  const handles = handlesOf(chain, 0, CHAIN_BLOCKS).reverse();
  return encode([0.5, [["BlockRemoved", handles, "GPU"]], 0], { useBigInt64: true });
}

const handlesOf = (chain: number, from: number, length: number): bigint[] =>
  Array.from({ length }, (_, at) => handleOf(chain, from + at));
const handleOf = (chain: number, block: number): bigint =>
  0xabcd_0000_0000_0000n + (BigInt(chain) << 16n) + BigInt(block);

const { engines, blocksPerSecond }: { engines: number; blocksPerSecond: number } = JSON.parse(
  process.argv[2] ?? "{}",
);
const sockets = Array.from({ length: engines }, () => new Publisher({ linger: 0 }));
for (const socket of sockets) await socket.bind("tcp://127.0.0.1:*");
const messages = Array.from({ length: CHAINS }, (_, chain) => [stored(chain), removed(chain)]);
process.send?.({ addresses: sockets.map((socket) => socket.lastEndpoint) });
process.once("disconnect", () => process.exit(0));
await new Promise((resolve) => process.once("message", resolve));

const seq = Buffer.alloc(8);
let sent = 0;
let owed = 0;
for (let last = performance.now(); ; ) {
  const now = performance.now();
  // What a busy machine could not send it does not owe for ever.
  owed = Math.min(64 * CHAIN_BLOCKS, owed + ((now - last) * blocksPerSecond) / 1000);
  last = now;
  for (; owed > 0; owed -= CHAIN_BLOCKS) {
    const round = Math.floor(sent / sockets.length);
    const payloads = messages[Math.floor(round / 2) % CHAINS] ?? [];
    seq.writeBigUInt64BE(BigInt(round));
    await sockets[sent % sockets.length]?.send(["", Buffer.from(seq), payloads[round % 2] ?? ""]);
    sent += 1;
  }
  await new Promise((resolve) => setTimeout(resolve, TURN_MS));
}
