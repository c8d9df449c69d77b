// Original file: proto/kvatlas/v1/index.proto


export interface WatchPodsRequest {
}

export interface WatchPodsRequest__Output {
}
