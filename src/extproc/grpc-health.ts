/** gRPC health of one server: readiness follows draining, liveness does not. */
import type { MethodDefinition, ServiceDefinition } from "@grpc/proto-loader";
import { HealthImplementation } from "grpc-health-check";
import type { Http2GrpcCall } from "./http2-grpc-call.ts";
import type { CallHandlers } from "./http2-grpc-server.ts";

/** Names that gateways and probes ask for; "" is the server as a whole. */
const READINESS_SERVICES = ["", "readiness"] as const;
const LIVENESS_SERVICE = "liveness";

type HealthServer = Parameters<HealthImplementation["addToServer"]>[0];

export class GrpcHealth {
  readonly #health: HealthImplementation;
  readonly #services: readonly string[];

  /** Starts not ready. `service`: full name of the one that the server is for. */
  constructor(service: string) {
    this.#services = [...READINESS_SERVICES, service];
    this.#health = new HealthImplementation({ [LIVENESS_SERVICE]: "SERVING" });
    this.setReady(false);
  }

  addTo(server: HealthServer): void {
    this.#health.addToServer(server);
  }

  /** The same for a server on node:http2. */
  handlers(): CallHandlers {
    const handlers = new Map<string, (call: Http2GrpcCall) => void>();
    this.addTo({
      addService: (definition: ServiceDefinition, implementation) => {
        for (const [name, method] of Object.entries(definition)) {
          // The health service uses no more of a call than is given here.
          const serve = implementation[name.toLowerCase()] as Serve | undefined;
          if (serve !== undefined) handlers.set(method.path, (call) => answer(call, method, serve));
        }
      },
    });
    return handlers;
  }

  setReady(isReady: boolean): void {
    for (const service of this.#services) {
      this.#health.setStatus(service, isReady ? "SERVING" : "NOT_SERVING");
    }
  }
}

type Serve = (
  call: {
    readonly request: unknown;
    readonly write: (value: object) => void;
    readonly on: (event: string, listener: () => void) => void;
  },
  callback: (error: Failure | null, value?: object | null) => void,
) => void;

type Failure = { readonly code?: number; readonly details?: string };

/** Calls what is written for grpc-js: one request, and one answer or a stream of them. */
function answer(call: Http2GrpcCall, method: MethodDefinition<object, object>, serve: Serve): void {
  const closed: (() => void)[] = [];
  const write = (value: object): void => void call.write(method.responseSerialize(value));
  call.start({
    onMessage: (bytes) => {
      const surface = {
        ...{ request: method.requestDeserialize(bytes), write },
        on: (_: string, listener: () => void) => void closed.push(listener),
      };
      serve(surface, (error, value) => {
        if (error === null && value) write(value);
        call.end({ code: error?.code ?? 0, details: error?.details ?? "" });
      });
    },
    onHalfClosed: () => {},
    onDrain: () => {},
    onClosed: () => {
      for (const listener of closed) listener();
    },
  });
}
