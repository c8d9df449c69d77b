// Original file: proto/kvatlas/v1/index.proto


export interface ResidencyRequest {
  'key'?: (Buffer | Uint8Array | string);
}

export interface ResidencyRequest__Output {
  'key'?: (Buffer);
}
