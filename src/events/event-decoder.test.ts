/** Every engine's decoder through the same suite. */
import { Encoder } from "@msgpack/msgpack";
import { describe } from "vitest";
import { eventSamples, jsonPayload, msgpackPayload } from "../../test/harness/event-samples.ts";
import { ENGINE_NAMES, type EngineName } from "../core/engine-name.ts";
import { type DecoderCase, eventDecoderContract } from "./event-decoder.contract.ts";
import { createEventDecoder } from "./event-decoder.ts";

type Payloads = Pick<DecoderCase, "removalOf" | "floats" | "mixed">;

const float64 = new Encoder({ forceIntegerToFloat: true });
const float32 = new Encoder({ forceIntegerToFloat: true, forceFloat32: true });
const FLOAT_TEXTS = ["1.0", "1e0", "10E-1", "0.1e+1"];

const msgpack: Payloads = {
  removalOf: (hash) => msgpackPayload([1.5, [["BlockRemoved", [hash]]], 0]),
  floats: [float64, float32].flatMap((encoder) => [
    encoder.encode([1.5, [["BlockRemoved", [1]]]]),
    encoder.encode([1.5, [{ type: "BlockRemoved", block_hashes: [1] }]]),
  ]),
  mixed: msgpackPayload([
    1.5,
    [
      ["BlockRemoved", [1n]],
      { type: "BlockMoved", block_hashes: [1n] },
      { type: "BlockRemoved", block_hashes: "all" },
      { type: "BlockRemoved", block_hashes: [2n], colour: "blue" },
    ],
    0,
  ]),
};

const trtllmEvents = [
  '{"type":"removed","block_hashes":[1]}',
  '{"type":"moved","block_hashes":[1]}',
  '{"type":"removed","block_hashes":"all"}',
  '{"type":"removed","block_hashes":[2],"colour":"blue"}',
];
const trtllm: Payloads = {
  removalOf: (hash) =>
    jsonPayload(`{"event_id":1,"data":{"type":"removed","block_hashes":[${hash}]}}`),
  floats: FLOAT_TEXTS.map((text) =>
    jsonPayload(`{"event_id":1,"data":{"type":"removed","block_hashes":[${text}]}}`),
  ),
  mixed: jsonPayload(`[${trtllmEvents.map((data) => `{"event_id":1,"data":${data}}`).join(",")}]`),
};

const dynamoEvents = [
  '{"removed":{"block_hashes":[1]}}',
  '{"moved":{"block_hashes":[1]}}',
  '{"removed":{"block_hashes":"all"}}',
  '{"removed":{"block_hashes":[2],"colour":"blue"}}',
];
const dynamo: Payloads = {
  removalOf: (hash) =>
    jsonPayload(`{"event":{"event_id":1,"data":{"removed":{"block_hashes":[${hash}]}}}}`),
  floats: [
    ...FLOAT_TEXTS.map((text) =>
      jsonPayload(`{"event":{"event_id":1,"data":{"removed":{"block_hashes":[${text}]}}}}`),
    ),
    float64.encode({ event: { data: { removed: { block_hashes: [1] } } } }),
  ],
  mixed: jsonPayload(`[${dynamoEvents.map((data) => `{"event":{"data":${data}}}`).join(",")}]`),
};

const payloads: Readonly<Record<EngineName, Payloads>> = {
  vllm: msgpack,
  sglang: msgpack,
  trtllm,
  dynamo,
  lmcache: msgpack,
  mooncake: msgpack,
};
const samples = eventSamples();

describe.each(ENGINE_NAMES)("the decoder of %s", (engine) => {
  eventDecoderContract({
    createDecoder: () => createEventDecoder(engine),
    samples: samples[engine],
    ...payloads[engine],
  });
});
