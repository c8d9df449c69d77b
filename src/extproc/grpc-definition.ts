/** The ext_proc service as grpc-js takes it, from proto/. */
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import type {
  ExternalProcessorClient,
  ExternalProcessorDefinition,
} from "./gen/envoy/service/ext_proc/v3/ExternalProcessor.ts";
import type { ProcessingRequest__Output } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProtoGrpcType } from "./gen/external_processor.ts";

/** Full name of the service; also its name in health checks. */
export const EXT_PROC_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor";

const PROTO_FOLDER = fileURLToPath(new URL("../../proto", import.meta.url));
const PROTO_FILE = "envoy/service/ext_proc/v3/external_processor.proto";

interface ExtProcPackage {
  readonly definition: ExternalProcessorDefinition;
  readonly createClient: (address: string) => ExternalProcessorClient;
}

/** Reads the proto file: some ms, once for a server or client. */
export function loadExtProcPackage(): ExtProcPackage {
  // The options are those that the types in gen/ were made with.
  const loaded = protoLoader.loadSync(PROTO_FILE, {
    includeDirs: [PROTO_FOLDER],
    keepCase: true,
    longs: Number,
    enums: String,
    defaults: false,
    oneofs: true,
  });
  const { ExternalProcessor } = (grpc.loadPackageDefinition(loaded) as unknown as ProtoGrpcType)
    .envoy.service.ext_proc.v3;
  return {
    definition: ExternalProcessor.service,
    createClient: (address) => new ExternalProcessor(address, grpc.credentials.createInsecure()),
  };
}

/**
 * The definition with a decoder that does not throw: bytes that are no ProcessingRequest become a
 * message of no kind, which the session counts as unknown.
 */
export function withTolerantDecoder(
  definition: ExternalProcessorDefinition,
): ExternalProcessorDefinition {
  const decode = definition.Process.requestDeserialize;
  const requestDeserialize = (bytes: Buffer): ProcessingRequest__Output => {
    try {
      return decode(bytes);
    } catch {
      return {};
    }
  };
  return { ...definition, Process: { ...definition.Process, requestDeserialize } };
}
