// Original file: proto/kvatlas/v1/index.proto


export interface StatsRequest {
}

export interface StatsRequest__Output {
}
