// Original file: proto/kvatlas/v1/index.proto

export const Knowledge = {
  KNOWLEDGE_UNSPECIFIED: 'KNOWLEDGE_UNSPECIFIED',
  EXACT: 'EXACT',
  DEGRADED: 'DEGRADED',
  FALLBACK: 'FALLBACK',
} as const;

export type Knowledge =
  | 'KNOWLEDGE_UNSPECIFIED'
  | 0
  | 'EXACT'
  | 1
  | 'DEGRADED'
  | 2
  | 'FALLBACK'
  | 3

export type Knowledge__Output = typeof Knowledge[keyof typeof Knowledge]
