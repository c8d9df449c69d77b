// Original file: proto/kvatlas/v1/index.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { MatchRequest as _kvatlas_v1_MatchRequest, MatchRequest__Output as _kvatlas_v1_MatchRequest__Output } from '../../kvatlas/v1/MatchRequest.ts';
import type { MatchResponse as _kvatlas_v1_MatchResponse, MatchResponse__Output as _kvatlas_v1_MatchResponse__Output } from '../../kvatlas/v1/MatchResponse.ts';
import type { ResidencyRequest as _kvatlas_v1_ResidencyRequest, ResidencyRequest__Output as _kvatlas_v1_ResidencyRequest__Output } from '../../kvatlas/v1/ResidencyRequest.ts';
import type { ResidencyResponse as _kvatlas_v1_ResidencyResponse, ResidencyResponse__Output as _kvatlas_v1_ResidencyResponse__Output } from '../../kvatlas/v1/ResidencyResponse.ts';
import type { StatsRequest as _kvatlas_v1_StatsRequest, StatsRequest__Output as _kvatlas_v1_StatsRequest__Output } from '../../kvatlas/v1/StatsRequest.ts';
import type { StatsResponse as _kvatlas_v1_StatsResponse, StatsResponse__Output as _kvatlas_v1_StatsResponse__Output } from '../../kvatlas/v1/StatsResponse.ts';
import type { WatchPodsRequest as _kvatlas_v1_WatchPodsRequest, WatchPodsRequest__Output as _kvatlas_v1_WatchPodsRequest__Output } from '../../kvatlas/v1/WatchPodsRequest.ts';
import type { WatchPodsResponse as _kvatlas_v1_WatchPodsResponse, WatchPodsResponse__Output as _kvatlas_v1_WatchPodsResponse__Output } from '../../kvatlas/v1/WatchPodsResponse.ts';

export interface IndexClient extends grpc.Client {
  Match(argument: _kvatlas_v1_MatchRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_MatchResponse__Output>): grpc.ClientUnaryCall;
  Match(argument: _kvatlas_v1_MatchRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_kvatlas_v1_MatchResponse__Output>): grpc.ClientUnaryCall;
  Match(argument: _kvatlas_v1_MatchRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_MatchResponse__Output>): grpc.ClientUnaryCall;
  Match(argument: _kvatlas_v1_MatchRequest, callback: grpc.requestCallback<_kvatlas_v1_MatchResponse__Output>): grpc.ClientUnaryCall;
  match(argument: _kvatlas_v1_MatchRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_MatchResponse__Output>): grpc.ClientUnaryCall;
  match(argument: _kvatlas_v1_MatchRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_kvatlas_v1_MatchResponse__Output>): grpc.ClientUnaryCall;
  match(argument: _kvatlas_v1_MatchRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_MatchResponse__Output>): grpc.ClientUnaryCall;
  match(argument: _kvatlas_v1_MatchRequest, callback: grpc.requestCallback<_kvatlas_v1_MatchResponse__Output>): grpc.ClientUnaryCall;
  
  Residency(argument: _kvatlas_v1_ResidencyRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_ResidencyResponse__Output>): grpc.ClientUnaryCall;
  Residency(argument: _kvatlas_v1_ResidencyRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_kvatlas_v1_ResidencyResponse__Output>): grpc.ClientUnaryCall;
  Residency(argument: _kvatlas_v1_ResidencyRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_ResidencyResponse__Output>): grpc.ClientUnaryCall;
  Residency(argument: _kvatlas_v1_ResidencyRequest, callback: grpc.requestCallback<_kvatlas_v1_ResidencyResponse__Output>): grpc.ClientUnaryCall;
  residency(argument: _kvatlas_v1_ResidencyRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_ResidencyResponse__Output>): grpc.ClientUnaryCall;
  residency(argument: _kvatlas_v1_ResidencyRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_kvatlas_v1_ResidencyResponse__Output>): grpc.ClientUnaryCall;
  residency(argument: _kvatlas_v1_ResidencyRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_ResidencyResponse__Output>): grpc.ClientUnaryCall;
  residency(argument: _kvatlas_v1_ResidencyRequest, callback: grpc.requestCallback<_kvatlas_v1_ResidencyResponse__Output>): grpc.ClientUnaryCall;
  
  Stats(argument: _kvatlas_v1_StatsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_StatsResponse__Output>): grpc.ClientUnaryCall;
  Stats(argument: _kvatlas_v1_StatsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_kvatlas_v1_StatsResponse__Output>): grpc.ClientUnaryCall;
  Stats(argument: _kvatlas_v1_StatsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_StatsResponse__Output>): grpc.ClientUnaryCall;
  Stats(argument: _kvatlas_v1_StatsRequest, callback: grpc.requestCallback<_kvatlas_v1_StatsResponse__Output>): grpc.ClientUnaryCall;
  stats(argument: _kvatlas_v1_StatsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_StatsResponse__Output>): grpc.ClientUnaryCall;
  stats(argument: _kvatlas_v1_StatsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_kvatlas_v1_StatsResponse__Output>): grpc.ClientUnaryCall;
  stats(argument: _kvatlas_v1_StatsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_kvatlas_v1_StatsResponse__Output>): grpc.ClientUnaryCall;
  stats(argument: _kvatlas_v1_StatsRequest, callback: grpc.requestCallback<_kvatlas_v1_StatsResponse__Output>): grpc.ClientUnaryCall;
  
  WatchPods(argument: _kvatlas_v1_WatchPodsRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_kvatlas_v1_WatchPodsResponse__Output>;
  WatchPods(argument: _kvatlas_v1_WatchPodsRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_kvatlas_v1_WatchPodsResponse__Output>;
  watchPods(argument: _kvatlas_v1_WatchPodsRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_kvatlas_v1_WatchPodsResponse__Output>;
  watchPods(argument: _kvatlas_v1_WatchPodsRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_kvatlas_v1_WatchPodsResponse__Output>;
  
}

export interface IndexHandlers extends grpc.UntypedServiceImplementation {
  Match: grpc.handleUnaryCall<_kvatlas_v1_MatchRequest__Output, _kvatlas_v1_MatchResponse>;
  
  Residency: grpc.handleUnaryCall<_kvatlas_v1_ResidencyRequest__Output, _kvatlas_v1_ResidencyResponse>;
  
  Stats: grpc.handleUnaryCall<_kvatlas_v1_StatsRequest__Output, _kvatlas_v1_StatsResponse>;
  
  WatchPods: grpc.handleServerStreamingCall<_kvatlas_v1_WatchPodsRequest__Output, _kvatlas_v1_WatchPodsResponse>;
  
}

export interface IndexDefinition extends grpc.ServiceDefinition {
  Match: MethodDefinition<_kvatlas_v1_MatchRequest, _kvatlas_v1_MatchResponse, _kvatlas_v1_MatchRequest__Output, _kvatlas_v1_MatchResponse__Output>
  Residency: MethodDefinition<_kvatlas_v1_ResidencyRequest, _kvatlas_v1_ResidencyResponse, _kvatlas_v1_ResidencyRequest__Output, _kvatlas_v1_ResidencyResponse__Output>
  Stats: MethodDefinition<_kvatlas_v1_StatsRequest, _kvatlas_v1_StatsResponse, _kvatlas_v1_StatsRequest__Output, _kvatlas_v1_StatsResponse__Output>
  WatchPods: MethodDefinition<_kvatlas_v1_WatchPodsRequest, _kvatlas_v1_WatchPodsResponse, _kvatlas_v1_WatchPodsRequest__Output, _kvatlas_v1_WatchPodsResponse__Output>
}
