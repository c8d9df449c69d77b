/** The engines and connectors whose KV events can be read. */

/**
 * - vllm: vLLM over ZMQ, with the connectors that publish in its stream
 * - sglang: SGLang over ZMQ
 * - trtllm: TensorRT-LLM, polled over HTTP
 * - dynamo: NVIDIA Dynamo's router events, which name blocks by hashes alone
 * - lmcache, mooncake: streams of these connectors alone, in vLLM's form
 */
export const ENGINE_NAMES = ["vllm", "sglang", "trtllm", "dynamo", "lmcache", "mooncake"] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

/** Where nothing else is said. */
export const ENGINE_DEFAULT: EngineName = "vllm";
