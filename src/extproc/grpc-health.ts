/** gRPC health of one server: readiness follows draining, liveness does not. */
import type { MethodDefinition } from "@grpc/proto-loader";
import { service as definition } from "grpc-health-check";
import { GRPC_STATUS, type Http2GrpcCall } from "./http2-grpc-call.ts";
import type { CallHandlers } from "./http2-grpc-server.ts";

/**
 * Names that gateways and probes ask for: "" is the server as a whole, "inference-extension" is asked for
 * by the probes of the Gateway API Inference Extension's conformance tests.
 */
export const READINESS_SERVICES = ["", "readiness", "inference-extension"] as const;
export const LIVENESS_SERVICE = "liveness";

/** Bytes of a request, which holds no more than the name of a service. */
const HEALTH_MESSAGE_BYTES_MAX = 4096;

type Answer = (call: Http2GrpcCall, service: string, write: (value: object) => void) => void;

export class GrpcHealth {
  readonly #readinessServices: readonly string[];
  /** What each watching call is told anew when readiness changes. */
  readonly #watches = new Map<Http2GrpcCall, () => void>();
  #isReady = false;

  /** Starts not ready. `service`: full name of the one that the server is for. */
  constructor(service: string) {
    this.#readinessServices = [...READINESS_SERVICES, service];
  }

  setReady(isReady: boolean): void {
    if (isReady === this.#isReady) return;
    this.#isReady = isReady;
    for (const tell of this.#watches.values()) tell();
  }

  handlers(): CallHandlers {
    const check: Answer = (call, service, write) => {
      const status = this.#statusOf(service);
      if (status === null) {
        call.end({ code: GRPC_STATUS.notFound, details: "no such service" });
        return;
      }
      write({ status });
      call.end(OK);
    };
    const watch: Answer = (call, service, write) => {
      const tell = (): void => write({ status: this.#statusOf(service) ?? "SERVICE_UNKNOWN" });
      tell();
      if (this.#readinessServices.includes(service)) this.#watches.set(call, tell);
    };
    const list: Answer = (call, _, write) => {
      const services = [...this.#readinessServices, LIVENESS_SERVICE];
      const statuses = services.map((service) => [service, { status: this.#statusOf(service) }]);
      write({ statuses: Object.fromEntries(statuses) });
      call.end(OK);
    };
    const answers = Object.entries({ Check: check, Watch: watch, List: list });
    return new Map(
      answers.map(([name, answer]) => {
        const method = definition[name] as MethodDefinition<{ service?: string }, object>;
        return [method.path, (call: Http2GrpcCall): void => this.#serve(call, method, answer)];
      }),
    );
  }

  /** Null: no such service. */
  #statusOf(service: string): "SERVING" | "NOT_SERVING" | null {
    if (service === LIVENESS_SERVICE) return "SERVING";
    if (!this.#readinessServices.includes(service)) return null;
    return this.#isReady ? "SERVING" : "NOT_SERVING";
  }

  /** One request, and one answer or a stream of them. */
  #serve(
    call: Http2GrpcCall,
    method: MethodDefinition<{ service?: string }, object>,
    answer: Answer,
  ): void {
    let isAsked = false;
    call.start(
      { messageBytesMax: HEALTH_MESSAGE_BYTES_MAX, budget: null },
      {
        onMessage: (bytes) => {
          if (isAsked) throw new Error("one message a call");
          isAsked = true;
          const { service = "" } = method.requestDeserialize(bytes);
          answer(call, service, (value) => void call.write(method.responseSerialize(value)));
        },
        onHalfClosed: () => {
          if (!isAsked) throw new Error("no message");
        },
        onDrain: () => {},
        onRefused: () => {},
        onClosed: () => this.#watches.delete(call),
      },
    );
  }
}

const OK = { code: GRPC_STATUS.ok, details: "" };
