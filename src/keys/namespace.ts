/** What separates keys: blocks of different namespaces never share a key, whatever their tokens. */

export interface Namespace {
  /** Base model that the endpoint serves. */
  readonly model: string;
  /** LoRA adapter's name, or "id:N" where an engine sends only an id; null for the base model. */
  readonly lora: string | null;
  readonly blockSizeTokens: number;
}

/** Bounds of a block's size; vLLM's run from 1 (tests) to 256, LMCache's chunks are 256. */
export const BLOCK_SIZE_TOKENS_MAX = 4096;

/** The namespace part of a LoRA adapter as engines name it: by name, on old versions by id. */
export function loraNamespace(name: string | null, id: number | bigint | null): string | null {
  if (name !== null && name !== "") return name;
  return id === null ? null : `id:${id}`;
}
