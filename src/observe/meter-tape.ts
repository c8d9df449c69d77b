/** What a thread counts, kept until it is handed to the thread that has the registry. */

import type { Labels, Meter } from "../core/meter.ts";
import type { CounterName, GaugeName, HistogramName } from "../core/metric-catalog.ts";

type Entry<Name> = readonly [Name, Labels, number];

/** Plain data, so that it can cross to another thread. */
export interface MeterTape {
  readonly counts: readonly Entry<CounterName>[];
  /** Forgotten before the gauges are set. */
  readonly resets: readonly GaugeName[];
  readonly gauges: readonly Entry<GaugeName>[];
  readonly observed: readonly Entry<HistogramName>[];
}

interface Cell<Name> {
  readonly name: Name;
  readonly labels: Labels;
  value: number;
}

/** Series are added up between two takes. Values of labels stand in the order of their first use. */
export class TapeMeter implements Meter {
  #counts = new Map<string, Cell<CounterName>>();
  #gauges = new Map<string, Cell<GaugeName>>();
  #resets = new Set<GaugeName>();
  #observed: Entry<HistogramName>[] = [];

  count(name: CounterName, labels: Labels = {}, by = 1): void {
    const key = seriesKey(name, labels);
    const cell = this.#counts.get(key);
    if (cell === undefined) this.#counts.set(key, { name, labels, value: by });
    else cell.value += by;
  }

  gauge(name: GaugeName, labels: Labels, value: number): void {
    this.#gauges.set(seriesKey(name, labels), { name, labels, value });
  }

  observe(name: HistogramName, labels: Labels, value: number): void {
    this.#observed.push([name, labels, value]);
  }

  resetGauge(name: GaugeName): void {
    for (const [key, cell] of this.#gauges) if (cell.name === name) this.#gauges.delete(key);
    this.#resets.add(name);
  }

  /** Hands over what came since the last call; null: nothing did. */
  take(): MeterTape | null {
    const tape = {
      counts: entriesOf(this.#counts),
      resets: [...this.#resets],
      gauges: entriesOf(this.#gauges),
      observed: this.#observed,
    };
    if (Object.values(tape).every(({ length }) => length === 0)) return null;
    this.#counts = new Map();
    this.#gauges = new Map();
    this.#resets = new Set();
    this.#observed = [];
    return tape;
  }
}

export function playTape({ counts, resets, gauges, observed }: MeterTape, meter: Meter): void {
  for (const [name, labels, value] of counts) meter.count(name, labels, value);
  for (const name of resets) meter.resetGauge(name);
  for (const [name, labels, value] of gauges) meter.gauge(name, labels, value);
  for (const [name, labels, value] of observed) meter.observe(name, labels, value);
}

function seriesKey(name: string, labels: Labels): string {
  let key = name;
  for (const label in labels) key += `\n${label}\t${labels[label]}`;
  return key;
}

function entriesOf<Name>(cells: ReadonlyMap<string, Cell<Name>>): Entry<Name>[] {
  return [...cells.values()].map(({ name, labels, value }) => [name, labels, value]);
}
