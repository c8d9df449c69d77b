/** `kvatlas why`: asks the admin server for a request's decision and prints it. */
import { z } from "zod";
import { KvError } from "../core/errors.ts";
import { askAdmin } from "./http-ask-admin.ts";
import { printLine, printTable } from "./print.ts";

/** As commander hands them over. */
export interface WhyFlags {
  readonly url: string;
  readonly output: string;
}

const candidateSchema = z.object({
  endpoint: z.string(),
  costMs: z.number(),
  termsMs: z.record(z.string(), z.number()),
  reusedTokens: z.number(),
  tokensByTier: z.record(z.string(), z.number()),
  workMs: z.number(),
  speed: z.number(),
  signalAgeMs: z.number().nullable(),
  state: z.string(),
  cap: z
    .object({
      outstandingMs: z.number(),
      limitMs: z.number(),
      isCapped: z.boolean(),
      holder: z.string(),
    })
    .nullable(),
});
type Candidate = z.infer<typeof candidateSchema>;

const recordSchema = z.object({
  requestId: z.string(),
  atMs: z.number(),
  inputTokens: z.number(),
  matchedBy: z.string(),
  reason: z.string(),
  chosen: candidateSchema,
  decodeEndpoint: z.string().nullable(),
  runnerUp: candidateSchema.nullable(),
  candidateCount: z.number(),
  candidates: z.array(candidateSchema),
  popularPrefix: z
    .object({
      blocks: z.number(),
      workRate: z.number(),
      holdersNeeded: z.number(),
      holders: z.number(),
    })
    .nullable(),
  possibleTokens: z.number(),
  queueMeanMs: z.number(),
  heldMs: z.number(),
  wishes: z.object({
    priority: z.number().nullable(),
    objective: z.string().nullable(),
    fairnessId: z.string().nullable(),
    ttftSloMs: z.number().nullable(),
    tpotSloMs: z.number().nullable(),
  }),
  wouldHaveChanged: z.array(z.string()),
});
type DecisionRecord = z.infer<typeof recordSchema>;

const answerSchema = z.object({ decision: recordSchema.nullable(), kept: z.number() });

/** Throws KvError ERR_DECISION_UNKNOWN when the router has no decision of this id. */
export async function tellWhy(requestId: string, { url, output }: WhyFlags): Promise<void> {
  const path = `/why?id=${encodeURIComponent(requestId)}`;
  const { decision, kept } = await askAdmin({ url, path }, answerSchema);
  if (decision === null) {
    const message =
      `${url}: no decision of request "${requestId}" among the ${kept} that are kept; ` +
      "it may be too old (observe.decisionsMax), refused, or another router's";
    throw new KvError("ERR_DECISION_UNKNOWN", message);
  }
  if (output === "json") {
    await printLine(JSON.stringify(decision, null, 2));
    return;
  }
  for (const line of summary(decision)) await printLine(line);
  await printTable([headOf(decision.chosen), ...rowsOf(decision)]);
  const { candidates, candidateCount, wouldHaveChanged } = decision;
  if (candidateCount > candidates.length) {
    await printLine(`and ${candidateCount - candidates.length} more candidates`);
  }
  for (const change of wouldHaveChanged) await printLine(`\n${change}`);
}

function summary(decision: DecisionRecord): string[] {
  const { chosen, decodeEndpoint, popularPrefix, inputTokens, heldMs } = decision;
  const decode = decodeEndpoint === null ? "" : `, decoding at ${decodeEndpoint}`;
  const held = heldMs > 0 ? `, held ${heldMs} ms before` : "";
  const popular =
    popularPrefix === null
      ? []
      : [
          `its first ${popularPrefix.blocks} blocks are popular: ${popularPrefix.workRate} s of work ` +
            `a second, which needs ${popularPrefix.holdersNeeded} holders, and has ${popularPrefix.holders}`,
        ];
  return [
    `${decision.requestId}: ${chosen.endpoint} (${decision.reason})${decode}${held}`,
    `${new Date(decision.atMs).toISOString()}, ${inputTokens} tokens, ` +
      `${chosen.reusedTokens} reused of ${decision.possibleTokens} possible; ` +
      `mean queue of the fleet ${decision.queueMeanMs} ms`,
    ...(MATCHED_BY[decision.matchedBy] ?? []),
    ...popular,
    ...wishLines(decision.wishes),
    "",
  ];
}

/** Said where the tokens counted above are no more than a guess, or none could be counted. */
const MATCHED_BY: Readonly<Record<string, readonly string[]>> = {
  approximate: [
    "approximate: its tokens were not there in time; guessed from chunks of its text, 4 bytes a token",
  ],
  none: ["by load alone: its tokens were not there"],
};

/** What the request asked for, where it asked for anything. */
function wishLines(wishes: DecisionRecord["wishes"]): string[] {
  const said = Object.entries(wishes).filter(([, value]) => value !== null);
  return said.length === 0 ? [] : [said.map(([name, value]) => `${name} ${value}`).join(", ")];
}

const FACTS = ["REUSED", "TIERS", "WORK", "SPEED", "SIGNAL AGE", "STATE", "CAP"];

/** Costs and terms are in ms. */
function headOf({ termsMs }: Candidate): string[] {
  const terms = Object.keys(termsMs).map((name) => name.toUpperCase());
  return ["", "ENDPOINT", "COST", ...terms, ...FACTS];
}

function rowsOf({ candidates, chosen, runnerUp }: DecisionRecord): string[][] {
  const shown = [chosen, ...candidates.filter(({ endpoint }) => endpoint !== chosen.endpoint)];
  return shown.map((candidate) => [
    candidate.endpoint === chosen.endpoint
      ? "chosen"
      : candidate.endpoint === runnerUp?.endpoint
        ? "next"
        : "",
    candidate.endpoint,
    String(candidate.costMs),
    ...Object.keys(chosen.termsMs).map((name) => String(candidate.termsMs[name] ?? 0)),
    String(candidate.reusedTokens),
    tiersOf(candidate),
    String(candidate.workMs),
    String(candidate.speed),
    candidate.signalAgeMs === null ? "none" : `${candidate.signalAgeMs}`,
    candidate.state,
    capOf(candidate),
  ]);
}

/** Outstanding of what may be of the popular prefix, ms. */
function capOf({ cap }: Candidate): string {
  if (cap === null) return "-";
  const holder = cap.holder === "none" ? "" : ` ${cap.holder}`;
  return `${cap.outstandingMs} of ${cap.limitMs}${holder}${cap.isCapped ? " capped" : ""}`;
}

function tiersOf({ tokensByTier }: Candidate): string {
  const parts = Object.entries(tokensByTier).filter(([, tokens]) => tokens > 0);
  return parts.length === 0 ? "-" : parts.map(([tier, tokens]) => `${tier} ${tokens}`).join(", ");
}
