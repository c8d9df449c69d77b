/** What a request's headers say about how it wants to be served, under their former and present names. */

export interface RequestTraits {
  /** Name of the objective (importance) that the request belongs to. */
  readonly objective: string | null;
  /** Whom the request is accounted to, for fairness among them. */
  readonly fairnessId: string | null;
  /** Wanted time to first token, ms. */
  readonly ttftSloMs: number | null;
  /** Wanted time for each further token, ms. */
  readonly tpotSloMs: number | null;
}

/** Characters of a header's value that are kept. */
const VALUE_CHARS_MAX = 256;

/** `headers`: names in lower case. Values that are not of their kind count as absent. */
export function readTraits(headers: ReadonlyMap<string, string>): RequestTraits {
  const text = (...names: readonly string[]): string | null => {
    const name = names.find((each) => (headers.get(each) ?? "") !== "");
    return name === undefined ? null : (headers.get(name) ?? "").slice(0, VALUE_CHARS_MAX);
  };
  const ms = (...names: readonly string[]): number | null => {
    const value = Number(text(...names) ?? Number.NaN);
    return Number.isFinite(value) && value > 0 ? value : null;
  };
  return {
    objective: text("x-llm-d-inference-objective", "x-gateway-inference-objective"),
    fairnessId: text("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"),
    ttftSloMs: ms("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms"),
    tpotSloMs: ms("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms"),
  };
}
