/** Which of the compared policies to take, in a sentence with its figures. Pure. */
import type { ComparisonRow } from "./compare-policies.ts";

/** Sees what no router can see: a yardstick, nothing to be recommended. */
const REFERENCE = "oracle";
/** Means closer than this are equal, as a share: about the noise of a run. */
const EQUAL = 0.03;

export interface Recommendation {
  /** Null: none, for the reason that `text` gives. */
  readonly policy: string | null;
  readonly text: string;
}

export function recommend(rows: readonly ComparisonRow[]): Recommendation {
  const choices = rows.filter(({ policy, lost }) => policy !== REFERENCE && lost === 0);
  const ranked = choices.toSorted((a, b) => a.ttftMeanSeconds - b.ttftMeanSeconds);
  const [first, second] = ranked;
  if (first === undefined) return { policy: null, text: "none: every policy lost requests" };
  if (second === undefined)
    return { policy: first.policy, text: `${first.policy}: no other choice` };
  if (second.ttftMeanSeconds <= first.ttftMeanSeconds * (1 + EQUAL)) {
    const [better, other] = first.goodput >= second.goodput ? [first, second] : [second, first];
    const text = `${better.policy}: as soon as ${other.policy} within ${EQUAL * 100} %`;
    return { policy: better.policy, text: `${text}, ${goodputText(better, other)}` };
  }
  const factor = (second.ttftMeanSeconds / first.ttftMeanSeconds).toFixed(2);
  const text = `${first.policy}: the mean first token comes ${factor} times as soon as with`;
  return {
    policy: first.policy,
    text: `${text} ${second.policy}, the next best; ${goodputText(first, second)}`,
  };
}

function goodputText(row: ComparisonRow, other: ComparisonRow): string {
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  return `${percent(row.goodput)} of the requests meet the objective, with it ${percent(other.goodput)}`;
}
