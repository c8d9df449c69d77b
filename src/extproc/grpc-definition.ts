/** The ext_proc service as grpc-js takes it, from proto/. */
import grpc from "@grpc/grpc-js";
import { loadProto } from "../core/grpc-proto.ts";
import { plainAnswer, readBodyMessage, streamedBodyParts } from "./body-wire.ts";
import type {
  ExternalProcessorClient,
  ExternalProcessorDefinition,
} from "./gen/envoy/service/ext_proc/v3/ExternalProcessor.ts";
import type { ProcessingRequest__Output } from "./gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProcessingResponse } from "./gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import type { ProtoGrpcType } from "./gen/external_processor.ts";

export const PROCESS_PATH = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/** Full name of the service; also its name in health checks. */
export const EXT_PROC_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor";

const PROTO_FILE = "envoy/service/ext_proc/v3/external_processor.proto";

interface ExtProcPackage {
  readonly definition: ExternalProcessorDefinition;
  /** Without credentials in plain text. */
  readonly createClient: (
    address: string,
    credentials?: grpc.ChannelCredentials,
  ) => ExternalProcessorClient;
}

/** Reads the proto file: some ms, once for a server or client. */
export function loadExtProcPackage(): ExtProcPackage {
  const { ExternalProcessor } = (loadProto(PROTO_FILE) as unknown as ProtoGrpcType).envoy.service
    .ext_proc.v3;
  return {
    definition: ExternalProcessor.service,
    createClient: (address, credentials = grpc.credentials.createInsecure()) =>
      new ExternalProcessor(address, credentials),
  };
}

/** The messages of the service as bytes. */
export interface ExtProcCodec {
  /** Bytes that are no ProcessingRequest become a message of no kind, which the session counts. */
  readonly decode: (bytes: Buffer) => ProcessingRequest__Output;
  /** In parts that follow each other; a body of the response is one of them, uncopied. */
  readonly encode: (response: ProcessingResponse) => readonly Uint8Array[];
}

export function extProcCodec({ Process }: ExternalProcessorDefinition): ExtProcCodec {
  return {
    decode: (bytes): ProcessingRequest__Output => {
      try {
        return readBodyMessage(bytes) ?? Process.requestDeserialize(bytes);
      } catch {
        return {};
      }
    },
    encode: (response) =>
      streamedBodyParts(response) ?? [plainAnswer(response) ?? Process.responseSerialize(response)],
  };
}
