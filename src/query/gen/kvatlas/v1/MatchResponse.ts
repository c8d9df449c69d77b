// Original file: proto/kvatlas/v1/index.proto

import type { EndpointMatch as _kvatlas_v1_EndpointMatch, EndpointMatch__Output as _kvatlas_v1_EndpointMatch__Output } from '../../kvatlas/v1/EndpointMatch.ts';
import type { BestMatch as _kvatlas_v1_BestMatch, BestMatch__Output as _kvatlas_v1_BestMatch__Output } from '../../kvatlas/v1/BestMatch.ts';

export interface MatchResponse {
  'endpoints'?: (_kvatlas_v1_EndpointMatch)[];
  'best'?: (_kvatlas_v1_BestMatch | null);
  'prompt_tokens'?: (number);
  'shared_prefix_tokens'?: (number);
  'available_tokens'?: (number);
}

export interface MatchResponse__Output {
  'endpoints'?: (_kvatlas_v1_EndpointMatch__Output)[];
  'best'?: (_kvatlas_v1_BestMatch__Output);
  'prompt_tokens'?: (number);
  'shared_prefix_tokens'?: (number);
  'available_tokens'?: (number);
}
