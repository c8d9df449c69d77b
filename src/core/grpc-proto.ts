/** A package of gRPC services from proto/, for servers and clients. */
import { fileURLToPath } from "node:url";
import grpc, { type GrpcObject } from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const PROTO_FOLDER = fileURLToPath(new URL("../../proto", import.meta.url));

/** Reads a file of proto/, named from there, and what it imports: some ms, once for a server or client. */
export function loadProto(file: string): GrpcObject {
  // The options are those that the types in gen/ were made with.
  const loaded = protoLoader.loadSync(file, {
    includeDirs: [PROTO_FOLDER],
    keepCase: true,
    longs: Number,
    enums: String,
    defaults: false,
    oneofs: true,
  });
  return grpc.loadPackageDefinition(loaded);
}
