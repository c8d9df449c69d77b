/**
 * Streams of pod states: all pods at first, then those that changed since the reader took the last.
 *
 * A reader that is slow is sent less often, never late states. Looks at the pods only while there
 * are readers.
 */
import type { Clock } from "../core/clock.ts";
import { podMessage } from "./answer-messages.ts";
import type { WatchPodsResponse } from "./gen/kvatlas/v1/WatchPodsResponse.ts";
import type { PodState } from "./index-queries.ts";

/** Readers at once; one more is refused. */
export const WATCHES_MAX = 256;
const LOOK_MS = 250;

export interface PodReader {
  /** False: it wants no more until it drains. */
  write(message: WatchPodsResponse): boolean;
}

interface Watch {
  readonly reader: PodReader;
  /** What it has been told of each pod, as text. */
  told: ReadonlyMap<string, string>;
  isFull: boolean;
}

export class PodWatchers {
  readonly #clock: Clock;
  readonly #pods: () => readonly PodState[];
  readonly #watches = new Map<PodReader, Watch>();
  #cancel: () => void = () => {};

  constructor(deps: { readonly clock: Clock; readonly pods: () => readonly PodState[] }) {
    this.#clock = deps.clock;
    this.#pods = deps.pods;
  }

  /** False: there are WATCHES_MAX already. */
  add(reader: PodReader): boolean {
    if (this.#watches.size >= WATCHES_MAX) return false;
    const watch: Watch = { reader, told: new Map(), isFull: false };
    this.#watches.set(reader, watch);
    // An empty fleet is an answer, too.
    this.#tell(watch, textsOf(this.#pods()), true);
    if (this.#watches.size === 1) this.#lookLater();
    return true;
  }

  drained(reader: PodReader): void {
    const watch = this.#watches.get(reader);
    if (watch !== undefined) watch.isFull = false;
  }

  remove(reader: PodReader): void {
    this.#watches.delete(reader);
    if (this.#watches.size === 0) this.#cancel();
  }

  #lookLater(): void {
    this.#cancel = this.#clock.after(LOOK_MS, () => {
      const pods = textsOf(this.#pods());
      for (const watch of this.#watches.values()) this.#tell(watch, pods, false);
      this.#lookLater();
    });
  }

  #tell(watch: Watch, pods: ReadonlyMap<string, PodText>, isFirst: boolean): void {
    if (watch.isFull) return;
    const changed = [...pods].filter(([endpoint, { text }]) => watch.told.get(endpoint) !== text);
    const gone = [...watch.told.keys()].filter((endpoint) => !pods.has(endpoint));
    if (!isFirst && changed.length === 0 && gone.length === 0) return;
    watch.told = new Map([...pods].map(([endpoint, { text }]) => [endpoint, text]));
    const message = { changed: changed.map(([, { pod }]) => podMessage(pod)), gone };
    watch.isFull = !watch.reader.write(message);
  }
}

interface PodText {
  readonly pod: PodState;
  readonly text: string;
}

function textsOf(pods: readonly PodState[]): ReadonlyMap<string, PodText> {
  return new Map(pods.map((pod) => [pod.endpointId, { pod, text: JSON.stringify(pod) }]));
}
