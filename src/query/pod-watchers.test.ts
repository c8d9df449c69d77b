import { expect, it } from "vitest";
import type { Clock } from "../core/clock.ts";
import { endpointId } from "../core/ids.ts";
import type { WatchPodsResponse } from "./gen/kvatlas/v1/WatchPodsResponse.ts";
import type { PodState } from "./index-queries.ts";
import { type PodReader, PodWatchers, WATCHES_MAX } from "./pod-watchers.ts";

function pod(number: number, state: PodState["state"]["state"] = "EXACT"): PodState {
  return {
    ...{ endpointId: endpointId(`10.0.0.${number}:8000`), name: `pod-${number}`, ready: "ready" },
    ...{ state: { state, reason: null }, ranks: [] },
  };
}

class Reader implements PodReader {
  isSlow = false;
  readonly messages: WatchPodsResponse[] = [];
  write(message: WatchPodsResponse): boolean {
    this.messages.push(message);
    return !this.isSlow;
  }
  /** Endpoints of the newest message. */
  get newest(): unknown {
    const { changed = [], gone = [] } = this.messages.at(-1) ?? {};
    return [changed.map(({ endpoint }) => endpoint), gone];
  }
}

it("tells all pods, then changes, and to a slow reader what is true when it reads again", () => {
  let later: (() => void) | null = null;
  const clock: Clock = {
    ...{ nowMs: () => 0, wallMs: () => 0 },
    after: (_, callback) => {
      later = callback;
      return () => {
        later = null;
      };
    },
  };
  const look = (): void => later?.();
  let pods: PodState[] = [];
  const watchers = new PodWatchers({ clock, pods: () => pods });
  const empty = new Reader();
  watchers.add(empty);
  expect(empty.newest).toEqual([[], []]);
  watchers.remove(empty);
  expect(later).toBeNull();

  pods = [pod(1), pod(2)];
  const [quick, slow] = [new Reader(), new Reader()];
  slow.isSlow = true;
  for (const reader of [quick, slow]) expect(watchers.add(reader)).toBe(true);
  expect(quick.newest).toEqual([["10.0.0.1:8000", "10.0.0.2:8000"], []]);
  look();
  expect(quick.messages).toHaveLength(1);

  pods = [pod(1, "DEGRADED"), pod(2)];
  look();
  expect(quick.newest).toEqual([["10.0.0.1:8000"], []]);
  pods = [pod(2, "FALLBACK")];
  look();
  expect(quick.newest).toEqual([["10.0.0.2:8000"], ["10.0.0.1:8000"]]);
  expect(slow.messages).toHaveLength(1);
  watchers.drained(slow);
  look();
  expect(slow.newest).toEqual([["10.0.0.2:8000"], ["10.0.0.1:8000"]]);
  expect(empty.messages).toHaveLength(1);
});

it("refuses one more than its bound, until one ends", () => {
  const clock = { nowMs: () => 0, wallMs: () => 0, after: () => () => {} };
  const watchers = new PodWatchers({ clock, pods: () => [] });
  const readers = Array.from({ length: WATCHES_MAX }, () => new Reader());
  for (const reader of readers) expect(watchers.add(reader)).toBe(true);
  expect(watchers.add(new Reader())).toBe(false);
  for (const reader of readers.slice(0, 1)) watchers.remove(reader);
  expect(watchers.add(new Reader())).toBe(true);
});
