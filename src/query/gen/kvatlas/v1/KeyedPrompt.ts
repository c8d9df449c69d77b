// Original file: proto/kvatlas/v1/index.proto


export interface KeyedPrompt {
  'keys'?: (Buffer | Uint8Array | string);
  'block_size_tokens'?: (number);
}

export interface KeyedPrompt__Output {
  'keys'?: (Buffer);
  'block_size_tokens'?: (number);
}
