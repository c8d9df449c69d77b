// Original file: proto/kvatlas/v1/index.proto

import type { Pod as _kvatlas_v1_Pod, Pod__Output as _kvatlas_v1_Pod__Output } from '../../kvatlas/v1/Pod.ts';

export interface WatchPodsResponse {
  'changed'?: (_kvatlas_v1_Pod)[];
  'gone'?: (string)[];
}

export interface WatchPodsResponse__Output {
  'changed'?: (_kvatlas_v1_Pod__Output)[];
  'gone'?: (string)[];
}
