// Original file: proto/kvatlas/v1/index.proto

import type { Place as _kvatlas_v1_Place, Place__Output as _kvatlas_v1_Place__Output } from '../../kvatlas/v1/Place.ts';

export interface ResidencyResponse {
  'places'?: (_kvatlas_v1_Place)[];
}

export interface ResidencyResponse__Output {
  'places'?: (_kvatlas_v1_Place__Output)[];
}
