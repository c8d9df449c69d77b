// Original file: proto/kvatlas/v1/index.proto

import type { Tier as _kvatlas_v1_Tier, Tier__Output as _kvatlas_v1_Tier__Output } from '../../kvatlas/v1/Tier.ts';

export interface Place {
  'endpoint'?: (string);
  'rank'?: (number);
  'tier'?: (_kvatlas_v1_Tier);
}

export interface Place__Output {
  'endpoint'?: (string);
  'rank'?: (number);
  'tier'?: (_kvatlas_v1_Tier__Output);
}
