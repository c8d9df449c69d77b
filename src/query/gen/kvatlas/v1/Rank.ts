// Original file: proto/kvatlas/v1/index.proto

import type { KnownState as _kvatlas_v1_KnownState, KnownState__Output as _kvatlas_v1_KnownState__Output } from '../../kvatlas/v1/KnownState.ts';

export interface Rank {
  'rank'?: (number);
  'state'?: (_kvatlas_v1_KnownState | null);
  'block_size_tokens'?: (number);
}

export interface Rank__Output {
  'rank'?: (number);
  'state'?: (_kvatlas_v1_KnownState__Output);
  'block_size_tokens'?: (number);
}
