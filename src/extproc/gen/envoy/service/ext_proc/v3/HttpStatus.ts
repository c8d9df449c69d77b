// Original file: proto/envoy/service/ext_proc/v3/external_processor.proto


export interface HttpStatus {
  'code'?: (number);
}

export interface HttpStatus__Output {
  'code'?: (number);
}
