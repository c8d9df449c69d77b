// Original file: proto/kvatlas/v1/index.proto


export interface BestMatch {
  'endpoint'?: (string);
  'prefix_tokens'?: (number);
  'reachable_tokens'?: (number);
}

export interface BestMatch__Output {
  'endpoint'?: (string);
  'prefix_tokens'?: (number);
  'reachable_tokens'?: (number);
}
