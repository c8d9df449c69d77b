/** The query service as grpc-js takes it, from proto/. */
import grpc from "@grpc/grpc-js";
import { loadProto } from "../core/grpc-proto.ts";
import type { ProtoGrpcType } from "./gen/index.ts";
import type { IndexClient, IndexDefinition } from "./gen/kvatlas/v1/Index.ts";

/** Full name of the service; also its name in health checks. */
export const QUERY_SERVICE = "kvatlas.v1.Index";

const PROTO_FILE = "kvatlas/v1/index.proto";

interface QueryPackage {
  readonly definition: IndexDefinition;
  readonly createClient: (address: string) => IndexClient;
}

/** Reads the proto file: some ms, once for a server or client. */
export function loadQueryPackage(): QueryPackage {
  const { Index } = (loadProto(PROTO_FILE) as unknown as ProtoGrpcType).kvatlas.v1;
  return {
    definition: Index.service,
    createClient: (address) => new Index(address, grpc.credentials.createInsecure()),
  };
}
