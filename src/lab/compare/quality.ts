/** A router's figures over those of the best peer and of the reference, family by family. */
import type { Clock } from "../../core/clock.ts";
import {
  type ComparedPolicy,
  type ComparisonRow,
  policyNamed,
  runPolicy,
} from "./compare-policies.ts";
import { type Aim, drawFamily, type Family } from "./families.ts";

const PEERS = ["least-requests", "llm-d", "gie", "dynamo"] as const;
/** Objective for the time to first token that goodput counts, s. */
export const QUALITY_SLO_SECONDS = 2;

export interface QualityRow {
  readonly family: string;
  readonly seed: number;
  readonly aim: Aim;
  readonly router: ComparisonRow;
  readonly oracle: ComparisonRow;
  /** Policy with the lowest mean of the peers. */
  readonly bestPeer: string;
  readonly meanOverPeer: number;
  readonly meanOverOracle: number;
  /** Each over the lowest of the peers' figures, whichever peer has it. */
  readonly p99OverPeer: number;
  readonly p99OverOracle: number;
  /** The router's goodput less the highest of the peers'. */
  readonly goodputGain: number;
}

export interface QualityRun {
  readonly family: Family;
  readonly requests: number;
  readonly seed: number;
}

export async function measureQuality(
  router: ComparedPolicy,
  { family, requests, seed }: QualityRun,
  clock: Clock,
): Promise<QualityRow> {
  const world = { ...drawFamily(family, { requests, seed }), sloSeconds: QUALITY_SLO_SECONDS };
  const run = async (name: string): Promise<ComparisonRow> => {
    const policy = policyNamed(name, clock);
    if (policy === null) throw new Error(`no policy "${name}"`);
    return await runPolicy(policy, world);
  };
  const own = await runPolicy(router, world);
  const oracle = await run("oracle");
  const peers: ComparisonRow[] = [];
  for (const name of PEERS) peers.push(await run(name));
  const least = (figure: (row: ComparisonRow) => number): number => Math.min(...peers.map(figure));
  const meanMin = least(({ ttftMeanSeconds }) => ttftMeanSeconds);
  return {
    family: family.name,
    seed,
    aim: family.aim,
    router: own,
    oracle,
    bestPeer: peers.find(({ ttftMeanSeconds }) => ttftMeanSeconds === meanMin)?.policy ?? "",
    meanOverPeer: own.ttftMeanSeconds / meanMin,
    meanOverOracle: own.ttftMeanSeconds / oracle.ttftMeanSeconds,
    p99OverPeer: own.ttftP99Seconds / least(({ ttftP99Seconds }) => ttftP99Seconds),
    p99OverOracle: own.ttftP99Seconds / oracle.ttftP99Seconds,
    goodputGain: own.goodput - Math.max(...peers.map(({ goodput }) => goodput)),
  };
}

/** What the row misses of its aim; empty when nothing. */
export function missesOf(row: QualityRow): string[] {
  const { aim } = row;
  const ratios = [
    ["mean/peer", row.meanOverPeer, aim.meanOverPeer],
    ["mean/oracle", row.meanOverOracle, aim.meanOverOracle],
    ["p99/peer", row.p99OverPeer, aim.p99OverPeer],
    ["p99/oracle", row.p99OverOracle, aim.p99OverOracle],
  ] as const;
  return [
    ...ratios.filter(([, value, limit]) => !(value <= limit)).map(([name]) => name),
    ...(aim.isGoodputAsked && row.goodputGain < 0 ? ["goodput"] : []),
    ...(row.router.lost > 0 ? [`${row.router.lost} lost`] : []),
  ];
}

export const QUALITY_HEAD = [
  ...["FAMILY".padEnd(17), "MEAN s", "mean/peer", "mean/oracle", "p99/peer", "p99/oracle"],
  ...["goodput", "gain", "hit", "held", "best peer", "MISSES"],
].join("  ");

export function qualityLine(row: QualityRow): string {
  const { router } = row;
  return [
    row.family.padEnd(17),
    router.ttftMeanSeconds.toFixed(3).padStart(6),
    row.meanOverPeer.toFixed(2).padStart(9),
    row.meanOverOracle.toFixed(2).padStart(11),
    row.p99OverPeer.toFixed(2).padStart(8),
    row.p99OverOracle.toFixed(2).padStart(10),
    router.goodput.toFixed(3).padStart(7),
    row.goodputGain.toFixed(2).padStart(5),
    router.hitRate.toFixed(2),
    String(router.heldRequests).padStart(4),
    row.bestPeer.padEnd(9).slice(0, 9),
    missesOf(row).join(", "),
  ].join("  ");
}
