// Original file: proto/kvatlas/v1/index.proto

import type { KnownState as _kvatlas_v1_KnownState, KnownState__Output as _kvatlas_v1_KnownState__Output } from '../../kvatlas/v1/KnownState.ts';

export interface EndpointMatch {
  'endpoint'?: (string);
  'state'?: (_kvatlas_v1_KnownState | null);
  'gpu_prefix_tokens'?: (number);
  'prefix_tokens'?: (number);
  'gpu_tokens'?: (number);
  'cpu_tokens'?: (number);
  'nvme_tokens'?: (number);
  'shared_tokens'?: (number);
  'reachable_tokens'?: (number);
}

export interface EndpointMatch__Output {
  'endpoint'?: (string);
  'state'?: (_kvatlas_v1_KnownState__Output);
  'gpu_prefix_tokens'?: (number);
  'prefix_tokens'?: (number);
  'gpu_tokens'?: (number);
  'cpu_tokens'?: (number);
  'nvme_tokens'?: (number);
  'shared_tokens'?: (number);
  'reachable_tokens'?: (number);
}
