import type * as grpc from '@grpc/grpc-js';
import type { EnumTypeDefinition, MessageTypeDefinition } from '@grpc/proto-loader';

import type { BestMatch as _kvatlas_v1_BestMatch, BestMatch__Output as _kvatlas_v1_BestMatch__Output } from './kvatlas/v1/BestMatch.ts';
import type { EndpointMatch as _kvatlas_v1_EndpointMatch, EndpointMatch__Output as _kvatlas_v1_EndpointMatch__Output } from './kvatlas/v1/EndpointMatch.ts';
import type { IndexClient as _kvatlas_v1_IndexClient, IndexDefinition as _kvatlas_v1_IndexDefinition } from './kvatlas/v1/Index.ts';
import type { KeyedPrompt as _kvatlas_v1_KeyedPrompt, KeyedPrompt__Output as _kvatlas_v1_KeyedPrompt__Output } from './kvatlas/v1/KeyedPrompt.ts';
import type { KnownState as _kvatlas_v1_KnownState, KnownState__Output as _kvatlas_v1_KnownState__Output } from './kvatlas/v1/KnownState.ts';
import type { MatchRequest as _kvatlas_v1_MatchRequest, MatchRequest__Output as _kvatlas_v1_MatchRequest__Output } from './kvatlas/v1/MatchRequest.ts';
import type { MatchResponse as _kvatlas_v1_MatchResponse, MatchResponse__Output as _kvatlas_v1_MatchResponse__Output } from './kvatlas/v1/MatchResponse.ts';
import type { Place as _kvatlas_v1_Place, Place__Output as _kvatlas_v1_Place__Output } from './kvatlas/v1/Place.ts';
import type { Pod as _kvatlas_v1_Pod, Pod__Output as _kvatlas_v1_Pod__Output } from './kvatlas/v1/Pod.ts';
import type { Rank as _kvatlas_v1_Rank, Rank__Output as _kvatlas_v1_Rank__Output } from './kvatlas/v1/Rank.ts';
import type { ResidencyRequest as _kvatlas_v1_ResidencyRequest, ResidencyRequest__Output as _kvatlas_v1_ResidencyRequest__Output } from './kvatlas/v1/ResidencyRequest.ts';
import type { ResidencyResponse as _kvatlas_v1_ResidencyResponse, ResidencyResponse__Output as _kvatlas_v1_ResidencyResponse__Output } from './kvatlas/v1/ResidencyResponse.ts';
import type { StatsRequest as _kvatlas_v1_StatsRequest, StatsRequest__Output as _kvatlas_v1_StatsRequest__Output } from './kvatlas/v1/StatsRequest.ts';
import type { StatsResponse as _kvatlas_v1_StatsResponse, StatsResponse__Output as _kvatlas_v1_StatsResponse__Output } from './kvatlas/v1/StatsResponse.ts';
import type { WatchPodsRequest as _kvatlas_v1_WatchPodsRequest, WatchPodsRequest__Output as _kvatlas_v1_WatchPodsRequest__Output } from './kvatlas/v1/WatchPodsRequest.ts';
import type { WatchPodsResponse as _kvatlas_v1_WatchPodsResponse, WatchPodsResponse__Output as _kvatlas_v1_WatchPodsResponse__Output } from './kvatlas/v1/WatchPodsResponse.ts';

type SubtypeConstructor<Constructor extends new (...args: any) => any, Subtype> = {
  new(...args: ConstructorParameters<Constructor>): Subtype;
};

export interface ProtoGrpcType {
  kvatlas: {
    v1: {
      BestMatch: MessageTypeDefinition<_kvatlas_v1_BestMatch, _kvatlas_v1_BestMatch__Output>
      EndpointMatch: MessageTypeDefinition<_kvatlas_v1_EndpointMatch, _kvatlas_v1_EndpointMatch__Output>
      Index: SubtypeConstructor<typeof grpc.Client, _kvatlas_v1_IndexClient> & { service: _kvatlas_v1_IndexDefinition }
      KeyedPrompt: MessageTypeDefinition<_kvatlas_v1_KeyedPrompt, _kvatlas_v1_KeyedPrompt__Output>
      Knowledge: EnumTypeDefinition
      KnownState: MessageTypeDefinition<_kvatlas_v1_KnownState, _kvatlas_v1_KnownState__Output>
      MatchRequest: MessageTypeDefinition<_kvatlas_v1_MatchRequest, _kvatlas_v1_MatchRequest__Output>
      MatchResponse: MessageTypeDefinition<_kvatlas_v1_MatchResponse, _kvatlas_v1_MatchResponse__Output>
      Place: MessageTypeDefinition<_kvatlas_v1_Place, _kvatlas_v1_Place__Output>
      Pod: MessageTypeDefinition<_kvatlas_v1_Pod, _kvatlas_v1_Pod__Output>
      Rank: MessageTypeDefinition<_kvatlas_v1_Rank, _kvatlas_v1_Rank__Output>
      ResidencyRequest: MessageTypeDefinition<_kvatlas_v1_ResidencyRequest, _kvatlas_v1_ResidencyRequest__Output>
      ResidencyResponse: MessageTypeDefinition<_kvatlas_v1_ResidencyResponse, _kvatlas_v1_ResidencyResponse__Output>
      StatsRequest: MessageTypeDefinition<_kvatlas_v1_StatsRequest, _kvatlas_v1_StatsRequest__Output>
      StatsResponse: MessageTypeDefinition<_kvatlas_v1_StatsResponse, _kvatlas_v1_StatsResponse__Output>
      Tier: EnumTypeDefinition
      WatchPodsRequest: MessageTypeDefinition<_kvatlas_v1_WatchPodsRequest, _kvatlas_v1_WatchPodsRequest__Output>
      WatchPodsResponse: MessageTypeDefinition<_kvatlas_v1_WatchPodsResponse, _kvatlas_v1_WatchPodsResponse__Output>
    }
  }
}

