// Original file: proto/kvatlas/v1/index.proto

import type { KnownState as _kvatlas_v1_KnownState, KnownState__Output as _kvatlas_v1_KnownState__Output } from '../../kvatlas/v1/KnownState.ts';
import type { Rank as _kvatlas_v1_Rank, Rank__Output as _kvatlas_v1_Rank__Output } from '../../kvatlas/v1/Rank.ts';

export interface Pod {
  'endpoint'?: (string);
  'name'?: (string);
  'ready'?: (string);
  'state'?: (_kvatlas_v1_KnownState | null);
  'ranks'?: (_kvatlas_v1_Rank)[];
}

export interface Pod__Output {
  'endpoint'?: (string);
  'name'?: (string);
  'ready'?: (string);
  'state'?: (_kvatlas_v1_KnownState__Output);
  'ranks'?: (_kvatlas_v1_Rank__Output)[];
}
