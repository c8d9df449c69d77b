/**
 * What a router can know of its pods from the messages of the simulate protocol: states, scraped
 * metrics, cached blocks, and its own requests. The common ground of the policies of this folder.
 */
import type {
  InitMessage,
  KvMessage,
  KvTier,
  MetricsMessage,
  PodFacts,
  PodState,
  RouteMessage,
  SimulateMessage,
} from "../simulate/messages.ts";

/** A request that this router has sent and not seen end. */
export interface BookedRequest {
  readonly pod: BookedPod;
  readonly decodePod: BookedPod | null;
  readonly inputTokens: number;
  readonly blocks: readonly number[];
  /** Tokens of the prompt that the pod had to compute, as known when it was sent. */
  readonly newTokens: number;
  isDecoding: boolean;
  generatedTokens: number;
}

export interface BookedPod {
  readonly facts: PodFacts;
  state: PodState;
  metrics: MetricsMessage | null;
  readonly held: Readonly<Record<KvTier, Set<number>>>;
  readonly requests: Set<BookedRequest>;
  /** Own requests at the pod that have no first token. */
  waiting: number;
  /** Prompt tokens that those still have to compute. */
  prefillTokens: number;
  /** Blocks of own requests, with how many of them use each. */
  readonly activeBlocks: Map<number, number>;
}

export class PodBook {
  readonly pods = new Map<string, BookedPod>();
  blockTokens = 1;
  replica = 0;
  readonly #requests = new Map<number | string, BookedRequest>();

  /** Takes note of anything but routes. */
  note(message: SimulateMessage): void {
    switch (message.op) {
      case "init":
        this.#init(message);
        break;
      case "pod":
        this.#podState(message.pod, message.state);
        break;
      case "kv":
        this.#held(message);
        break;
      case "metrics": {
        const pod = this.pods.get(message.pod);
        if (pod !== undefined) pod.metrics = message;
        break;
      }
      case "first_token":
        this.#firstToken(message.id);
        break;
      case "progress":
        for (const id of message.ids) {
          const request = this.#requests.get(id);
          if (request !== undefined) request.generatedTokens += message.tokens;
        }
        break;
      case "finish":
      case "refused":
        this.#end(message.id);
        break;
      default:
    }
  }

  /** Pods that may be given the prompt, or in fleets with roles its decoding. */
  candidates(exclude: readonly string[], part: "prompt" | "decode"): BookedPod[] {
    const unwanted = part === "prompt" ? "decode" : "prefill";
    return [...this.pods.values()].filter(
      ({ facts, state }) =>
        state === "ready" && facts.role !== unwanted && !exclude.includes(facts.id),
    );
  }

  get hasDecodePods(): boolean {
    return [...this.pods.values()].some(({ facts }) => facts.role === "decode");
  }

  /** Leading blocks of a prompt that a set holds. */
  static leading(blocks: readonly number[], isHeld: (block: number) => boolean): number {
    const firstMissing = blocks.findIndex((block) => !isHeld(block));
    return firstMissing === -1 ? blocks.length : firstMissing;
  }

  book(
    message: RouteMessage,
    sent: { pod: BookedPod; decodePod: BookedPod | null; newTokens: number },
  ): void {
    this.#end(message.id);
    const { pod, decodePod, newTokens } = sent;
    const request: BookedRequest = {
      pod,
      decodePod,
      inputTokens: message.input_tokens,
      blocks: message.blocks,
      newTokens,
      isDecoding: false,
      generatedTokens: 0,
    };
    this.#requests.set(message.id, request);
    pod.requests.add(request);
    decodePod?.requests.add(request);
    pod.waiting += 1;
    pod.prefillTokens += newTokens;
    for (const block of message.blocks) {
      pod.activeBlocks.set(block, (pod.activeBlocks.get(block) ?? 0) + 1);
    }
  }

  #init(message: InitMessage): void {
    this.blockTokens = message.block_size;
    this.replica = message.replica;
    for (const facts of message.pods) {
      this.pods.set(facts.id, {
        facts,
        state: facts.state,
        metrics: null,
        held: { gpu: new Set(), cpu: new Set(), disk: new Set() },
        requests: new Set(),
        waiting: 0,
        prefillTokens: 0,
        activeBlocks: new Map(),
      });
    }
  }

  #held({ pod, tier, type, blocks }: KvMessage): void {
    const held = this.pods.get(pod)?.held[tier];
    for (const block of blocks) {
      if (type === "stored") held?.add(block);
      else held?.delete(block);
    }
  }

  #podState(id: string, state: PodState): void {
    const pod = this.pods.get(id);
    if (pod === undefined) return;
    pod.state = state;
    if (state !== "gone") return;
    pod.metrics = null;
    for (const blocks of Object.values(pod.held)) blocks.clear();
  }

  #firstToken(id: number | string): void {
    const request = this.#requests.get(id);
    if (request === undefined || request.isDecoding) return;
    request.isDecoding = true;
    request.pod.waiting -= 1;
    request.pod.prefillTokens -= request.newTokens;
    if (request.decodePod !== null) this.#leavePod(request);
  }

  #end(id: number | string): void {
    const request = this.#requests.get(id);
    if (request === undefined) return;
    this.#requests.delete(id);
    request.decodePod?.requests.delete(request);
    if (!request.isDecoding) {
      request.pod.waiting -= 1;
      request.pod.prefillTokens -= request.newTokens;
    }
    this.#leavePod(request);
  }

  #leavePod(request: BookedRequest): void {
    const { pod, blocks } = request;
    if (!pod.requests.delete(request)) return;
    for (const block of blocks) {
      const users = (pod.activeBlocks.get(block) ?? 0) - 1;
      if (users > 0) pod.activeBlocks.set(block, users);
      else pod.activeBlocks.delete(block);
    }
  }
}
