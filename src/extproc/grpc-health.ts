/** gRPC health of one server: readiness follows draining, liveness does not. */
import type grpc from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";

/** Names that gateways and probes ask for; "" is the server as a whole. */
const READINESS_SERVICES = ["", "readiness"] as const;
const LIVENESS_SERVICE = "liveness";

export class GrpcHealth {
  readonly #health: HealthImplementation;
  readonly #services: readonly string[];

  /** Starts not ready. `service`: full name of the one that the server is for. */
  constructor(service: string) {
    this.#services = [...READINESS_SERVICES, service];
    this.#health = new HealthImplementation({ [LIVENESS_SERVICE]: "SERVING" });
    this.setReady(false);
  }

  addTo(server: grpc.Server): void {
    this.#health.addToServer(server);
  }

  setReady(isReady: boolean): void {
    for (const service of this.#services) {
      this.#health.setStatus(service, isReady ? "SERVING" : "NOT_SERVING");
    }
  }
}
