/** A simulated pod on the time line: its steps, its KV events, its life and death. */
import type { KvTier, PodRole } from "../simulate/messages.ts";
import type { ChangeSet } from "./change-set.ts";
import type { EventHeap } from "./event-heap.ts";
import { type PodRequest, type PodShape, SimPod, type StepEnd } from "./sim-pod.ts";

/** ready and draining serve; gone is dead. */
type HostState = "ready" | "draining" | "gone";

export interface PodHostDeps {
  readonly heap: EventHeap;
  readonly nowSeconds: () => number;
  readonly onStepEnd: (host: PodHost, end: StepEnd) => void;
  readonly onKvChange: (host: PodHost, tier: KvTier, change: ReturnType<ChangeSet["take"]>) => void;
}

export class PodHost {
  readonly id: string;
  readonly role: PodRole;
  readonly pod: SimPod;
  state: HostState = "ready";
  /** Counts lives: what was under way in an earlier one is void. */
  life = 1;
  /** When the step under way ends; meaningful while one is. */
  stepEndSeconds = 0;
  readonly #deps: PodHostDeps;
  #isStepping = false;

  constructor(
    place: { readonly id: string; readonly role: PodRole },
    shape: PodShape,
    deps: PodHostDeps,
  ) {
    this.id = place.id;
    this.role = place.role;
    this.pod = new SimPod(shape);
    this.#deps = deps;
  }

  get isAccepting(): boolean {
    return this.state === "ready";
  }

  submit(request: PodRequest): void {
    this.pod.waiting.push(request);
    if (this.#isStepping) return;
    this.#isStepping = true;
    const { life } = this;
    // After what arrives at the same moment.
    this.#deps.heap.add(this.#deps.nowSeconds(), () => {
      if (life === this.life) this.#startStep();
    });
  }

  /** Returns the requests that are lost. */
  die(): PodRequest[] {
    this.state = "gone";
    this.life += 1;
    this.#isStepping = false;
    return this.pod.die();
  }

  #startStep(): void {
    const seconds = this.pod.startStep();
    if (seconds === null) {
      this.#isStepping = false;
      return;
    }
    const { life } = this;
    this.stepEndSeconds = this.#deps.nowSeconds() + seconds;
    this.#deps.heap.add(this.stepEndSeconds, () => {
      if (life === this.life) this.#endStep();
    });
  }

  #endStep(): void {
    const { cache } = this.pod;
    this.#tell("gpu", cache.gpuChanges);
    this.#tell("cpu", cache.cpu.changes);
    this.#tell("disk", cache.disk.changes);
    this.#deps.onStepEnd(this, this.pod.endStep());
    this.#startStep();
  }

  #tell(tier: KvTier, changes: ChangeSet): void {
    const change = changes.take();
    if (change.stored.length + change.removed.length > 0) {
      this.#deps.onKvChange(this, tier, change);
    }
  }
}
