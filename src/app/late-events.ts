/** The engines' side of the write path from the moment the index is restored; until then it waits. */
import type { Holder } from "../core/ids.ts";
import type { EventSource } from "../events/ingest.ts";
import type { StreamFacts } from "../events/stream-facts.ts";
import type { WritePath } from "./write-path.ts";
import type { EventSide } from "./write-side.ts";

export class LateEvents implements EventSide {
  readonly #path: Promise<WritePath | null>;
  #started: WritePath | null = null;
  #sources: readonly EventSource[] | null = null;

  /** `start` is called after `ready`, unless that resolves to false: then nothing is followed. */
  constructor(ready: Promise<boolean>, start: () => WritePath) {
    this.#path = ready.then((isReady) => {
      if (!isReady) return null;
      this.#started = start();
      if (this.#sources !== null) this.#started.ingest.reconcile(this.#sources);
      return this.#started;
    });
  }

  /** For people. */
  get detail(): string {
    return this.#started?.detail() ?? "wait until the index is restored";
  }

  reconcile(sources: readonly EventSource[]): void {
    this.#sources = sources;
    this.#started?.ingest.reconcile(sources);
  }

  factsOf(holder: Holder): StreamFacts | null {
    return this.#started?.ingest.factsOf(holder) ?? null;
  }

  heardMsOf(holder: Holder): number | null {
    return this.#started?.ingest.heardMsOf(holder) ?? null;
  }

  resync(holder: Holder): boolean {
    return this.#started?.ingest.resync(holder) ?? false;
  }

  async stop(): Promise<void> {
    const path = await this.#path;
    await path?.stop();
  }
}
