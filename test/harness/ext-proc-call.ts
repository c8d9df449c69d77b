/** A gateway that is no Envoy: its messages to the picker, and what comes back. */
import grpc from "@grpc/grpc-js";
import type { ProcessingRequest } from "../../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import type { ProcessingResponse__Output } from "../../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingResponse.ts";
import { loadExtProcPackage } from "../../src/extproc/grpc-definition.ts";

const DESTINATION = "x-gateway-destination-endpoint";

/**
 * Sends the request's messages, and those of the response once the request has come back; then
 * closes its side, and reads until the picker has closed its own. `isTls`: without verifying it.
 */
export async function callPicker(
  { address, isTls = false }: { readonly address: string; readonly isTls?: boolean },
  request: readonly ProcessingRequest[],
  response: readonly ProcessingRequest[] = [],
): Promise<ProcessingResponse__Output[]> {
  const tls = grpc.credentials.createSsl(null, null, null, { rejectUnauthorized: false });
  const client = loadExtProcPackage().createClient(address, isTls ? tls : undefined);
  try {
    return await new Promise((resolve, reject) => {
      const responses: ProcessingResponse__Output[] = [];
      const call = client.Process();
      const sendAll = (messages: readonly ProcessingRequest[]): void => {
        for (const message of messages) call.write(message);
      };
      call.on("data", (message: ProcessingResponse__Output) => {
        responses.push(message);
        const piece = message.request_body?.response?.body_mutation?.streamed_response;
        if (piece?.end_of_stream !== true || response.length === 0) return;
        sendAll(response);
        call.end();
      });
      call.on("error", reject);
      call.on("end", () => resolve(responses));
      sendAll(request);
      if (response.length === 0) call.end();
    });
  } finally {
    client.close();
  }
}

/** As a gateway reads it that looks at the answer to the headers alone, and at raw values. */
export function destinationOf(responses: readonly ProcessingResponse__Output[]): string | null {
  const headers = responses.flatMap(
    (each) => each.request_headers?.response?.header_mutation?.set_headers ?? [],
  );
  const found = headers.find(({ header }) => header?.key === DESTINATION);
  return found?.header?.raw_value?.toString() ?? null;
}

/** The body that the picker sent back, whole. */
export function bodyOf(responses: readonly ProcessingResponse__Output[]): string {
  const pieces = responses.map(
    (each) =>
      each.request_body?.response?.body_mutation?.streamed_response?.body ?? Buffer.alloc(0),
  );
  return Buffer.concat(pieces).toString();
}
