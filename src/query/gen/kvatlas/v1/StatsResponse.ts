// Original file: proto/kvatlas/v1/index.proto

import type { Long } from '@grpc/proto-loader';

export interface StatsResponse {
  'blocks'?: (number | string | Long);
  'gpu_entries'?: (number | string | Long);
  'cpu_entries'?: (number | string | Long);
  'nvme_entries'?: (number | string | Long);
  'shared_entries'?: (number | string | Long);
  'exact_endpoints'?: (number);
  'degraded_endpoints'?: (number);
  'fallback_endpoints'?: (number);
  'block_sizes_tokens'?: (number)[];
}

export interface StatsResponse__Output {
  'blocks'?: (number);
  'gpu_entries'?: (number);
  'cpu_entries'?: (number);
  'nvme_entries'?: (number);
  'shared_entries'?: (number);
  'exact_endpoints'?: (number);
  'degraded_endpoints'?: (number);
  'fallback_endpoints'?: (number);
  'block_sizes_tokens'?: (number)[];
}
