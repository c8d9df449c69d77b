// Original file: proto/kvatlas/v1/index.proto

export const Tier = {
  TIER_UNSPECIFIED: 'TIER_UNSPECIFIED',
  GPU: 'GPU',
  CPU: 'CPU',
  NVME: 'NVME',
  SHARED: 'SHARED',
} as const;

export type Tier =
  | 'TIER_UNSPECIFIED'
  | 0
  | 'GPU'
  | 1
  | 'CPU'
  | 2
  | 'NVME'
  | 3
  | 'SHARED'
  | 4

export type Tier__Output = typeof Tier[keyof typeof Tier]
