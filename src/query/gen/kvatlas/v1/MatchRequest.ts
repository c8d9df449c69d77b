// Original file: proto/kvatlas/v1/index.proto

import type { KeyedPrompt as _kvatlas_v1_KeyedPrompt, KeyedPrompt__Output as _kvatlas_v1_KeyedPrompt__Output } from '../../kvatlas/v1/KeyedPrompt.ts';

export interface MatchRequest {
  'tokens'?: (Buffer | Uint8Array | string);
  'keyed'?: (_kvatlas_v1_KeyedPrompt | null);
  'lora'?: (string);
  'cache_salt'?: (string);
  'prompt'?: "tokens"|"keyed";
}

export interface MatchRequest__Output {
  'tokens'?: (Buffer);
  'keyed'?: (_kvatlas_v1_KeyedPrompt__Output);
  'lora'?: (string);
  'cache_salt'?: (string);
  'prompt'?: "tokens"|"keyed";
}
