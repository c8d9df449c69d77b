// Original file: proto/kvatlas/v1/index.proto

import type { Knowledge as _kvatlas_v1_Knowledge, Knowledge__Output as _kvatlas_v1_Knowledge__Output } from '../../kvatlas/v1/Knowledge.ts';

export interface KnownState {
  'knowledge'?: (_kvatlas_v1_Knowledge);
  'reason'?: (string);
}

export interface KnownState__Output {
  'knowledge'?: (_kvatlas_v1_Knowledge__Output);
  'reason'?: (string);
}
