/** gRPC health of the Envoy edge: readiness follows draining, liveness does not. */
import type grpc from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";
import { EXT_PROC_SERVICE } from "./grpc-definition.ts";

/** Names that gateways and probes ask for; "" is the server as a whole. */
const READINESS_SERVICES = ["", "readiness", EXT_PROC_SERVICE] as const;
const LIVENESS_SERVICE = "liveness";

export class GrpcHealth {
  readonly #health: HealthImplementation;

  /** Starts not ready. */
  constructor() {
    this.#health = new HealthImplementation({ [LIVENESS_SERVICE]: "SERVING" });
    this.setReady(false);
  }

  addTo(server: grpc.Server): void {
    this.#health.addToServer(server);
  }

  setReady(isReady: boolean): void {
    for (const service of READINESS_SERVICES) {
      this.#health.setStatus(service, isReady ? "SERVING" : "NOT_SERVING");
    }
  }
}
