/** A history by its seed, and what came of it. */
import { createHash } from "node:crypto";
import { Chance } from "./chance.ts";
import { type Kind, kindOf } from "./chaos-kinds.ts";
import { Divergence } from "./chaos-said.ts";
import { History, type HistoryDeps } from "./history.ts";
import { SequenceHistory } from "./sequence-history.ts";

/** Short histories of one seed. */
const SEQUENCES = 20;

export interface HistoryOutcome {
  /** Of what the router held at the end: equal for equal seeds. */
  readonly digest: string;
  /** What went wrong first; null: nothing. */
  readonly problem: string | null;
  /** Times at which EXACT was claimed, and was true. */
  readonly exactClaims: number;
  readonly messages: number;
}

/** `kind`: default that of the seed. */
export function runHistory(
  seed: number,
  deps: HistoryDeps,
  kind: Kind = kindOf(seed),
): HistoryOutcome {
  if (kind === "sequence") return runSequences(seed, deps);
  const history = new History(seed, deps, kind);
  const problem = problemOf(() => history.run());
  const { router, messages } = history;
  return {
    digest: digestOf(router.contents()),
    problem,
    exactClaims: router.exactClaims,
    messages,
  };
}

function runSequences(seed: number, { hasher }: HistoryDeps): HistoryOutcome {
  const chance = new Chance(seed);
  let exactClaims = 0;
  let contents = "";
  let problem: string | null = null;
  for (let run = 0; run < SEQUENCES && problem === null; run += 1) {
    const history = new SequenceHistory(chance, hasher);
    problem = problemOf(() => history.run());
    exactClaims += history.exactClaims;
    contents += `${history.end};`;
  }
  return { digest: digestOf(contents), problem, exactClaims, messages: 0 };
}

/** What goes wrong first; null: nothing. */
function problemOf(run: () => void): string | null {
  try {
    run();
    return null;
  } catch (error) {
    if (error instanceof Divergence) return error.message;
    return `threw: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
  }
}

function digestOf(contents: string): string {
  return createHash("sha256").update(contents).digest("hex").slice(0, 16);
}
