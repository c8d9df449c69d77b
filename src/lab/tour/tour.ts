/**
 * The main job in one command: the same work through the same engines, first round robin, then
 * with kvatlas, and what the difference is. This file holds the order of things.
 */
import { type Clock, sleep } from "../../core/clock.ts";
import type { KvError } from "../../core/errors.ts";
import { seededRandom } from "../../core/random.ts";
import type { Environment } from "../process-binaries.ts";
import { CONVERSATION_SHAPE, planConversations } from "../workload/conversations.ts";
import { readTrace } from "../workload/file-trace.ts";
import { measureReuse } from "../workload/infinite-cache.ts";
import type { PlannedWork } from "../workload/planned-work.ts";
import { planTrace } from "../workload/trace-work.ts";
import { comparisonTable, verdict } from "./comparison.ts";
import { fetchRouterNumbers } from "./http-router-metrics.ts";
import type { Screen } from "./screen.ts";
import { InterruptedError, startParts, type TourParts } from "./tour-parts.ts";
import { type PhaseOutcome, runPhase } from "./tour-phase.ts";
import {
  NEW_TOKENS_PER_SECOND_PER_ENGINE,
  TOUR_ENGINE,
  type TourOptions,
  TRACE_LIMITS,
} from "./tour-setup.ts";
import { doubtsText, failuresText, introduction, keptText, workText } from "./tour-words.ts";

/** Exit code of a process that was interrupted, by convention 128 + SIGINT. */
const INTERRUPTED = 130;
const EMPTY_INDEX_MS_MAX = 5000;
const POLL_MS = 50;

export interface TourDeps {
  readonly clock: Clock;
  readonly screen: Screen;
  readonly env: Environment;
  /** The JavaScript file of the command line. */
  readonly cliEntry: string;
  /** Aborts when the user wants it to end. */
  readonly interrupted: AbortSignal;
}

/** Returns the exit code; throws KvError when a part fails. Whatever happens, all parts are ended. */
export async function runTour(options: TourOptions, deps: TourDeps): Promise<number> {
  const { screen, interrupted } = deps;
  const work = await planWork(options);
  screen.say(introduction(options.engines));
  const failed = new AbortController();
  let failure: KvError | null = null;
  const onFailure = (error: KvError): void => {
    failure ??= error;
    failed.abort();
  };
  const signal = AbortSignal.any([interrupted, failed.signal]);
  const say = (line: string): void => screen.say(line);
  try {
    const parts = await startParts(options, { ...deps, say, onFailure, signal: interrupted });
    try {
      const code = await compare(options, { ...deps, parts, work, signal });
      if (options.isKept && !signal.aborted) {
        screen.say(keptText(parts));
        await untilAborted(signal);
        if (interrupted.aborted) return code;
      }
      if (failure !== null) throw failure;
      if (interrupted.aborted) screen.say("Interrupted before the end.");
      return interrupted.aborted ? INTERRUPTED : code;
    } finally {
      await parts.stop();
    }
  } catch (reason) {
    if (reason instanceof InterruptedError) return INTERRUPTED;
    throw reason;
  }
}

async function planWork(options: TourOptions): Promise<PlannedWork> {
  const load = {
    seconds: options.seconds,
    newTokensPerSecond: NEW_TOKENS_PER_SECOND_PER_ENGINE * options.engines,
  };
  const random = seededRandom(options.seed);
  return options.tracePath === null
    ? planConversations(CONVERSATION_SHAPE, load, random)
    : planTrace(await readTrace(options.tracePath), { load, limits: TRACE_LIMITS }, random);
}

interface CompareDeps extends TourDeps {
  readonly parts: TourParts;
  readonly work: PlannedWork;
  readonly signal: AbortSignal;
}

/** Both phases and the table; the exit code. Returns early when aborted. */
async function compare(options: TourOptions, deps: CompareDeps): Promise<number> {
  const { screen, parts, work, signal } = deps;
  const prompts = work.requests.map(({ prompt }) => prompt);
  const reuse = measureReuse(prompts, TOUR_ENGINE.blockSizeTokens);
  const reusableShare = reuse.reusableTokens / reuse.promptTokens;
  screen.say(workText(work, reuse, options));
  const { seconds } = options;
  const plan = { work, reusableShare, seconds };
  const phaseDeps = { ...deps, engines: parts.engines, adminAddress: parts.router.adminAddress };

  screen.say("\nPhase 1 of 2: round robin, each request to the next engine in turn.");
  const first = { ...plan, title: "1/2 round robin", sender: parts.roundRobin, isRouted: false };
  const roundRobin = await runPhase(first, phaseDeps);
  if (signal.aborted) return 1;
  await emptyCaches(deps);
  screen.say("\nPhase 2 of 2: kvatlas, the same requests, all caches empty again.");
  const second = { ...plan, title: "2/2 kvatlas", sender: parts.routed, isRouted: true };
  const kvatlas = await runPhase(second, phaseDeps);
  if (signal.aborted) return 1;
  const table = [...comparisonTable(roundRobin, kvatlas), "", verdict(roundRobin, kvatlas)];
  screen.say(`\n${table.join("\n")}`);
  return conclude([roundRobin, kvatlas], screen);
}

function conclude(phases: readonly PhaseOutcome[], screen: Screen): number {
  for (const line of phases.flatMap((phase) => [...doubtsText(phase), ...failuresText(phase)])) {
    screen.say(line);
  }
  return phases.some(({ failed }) => failed > 0) ? 1 : 0;
}

/** Evicts everything, and waits until the index has seen it. */
async function emptyCaches({ parts, clock, screen, signal }: CompareDeps): Promise<void> {
  for (const engine of parts.engines) engine.evictAll();
  const endMs = clock.nowMs() + EMPTY_INDEX_MS_MAX;
  let blocks: number | undefined;
  while (clock.nowMs() < endMs && !signal.aborted) {
    blocks = (await fetchRouterNumbers(parts.router.adminAddress))?.indexBlocks;
    if (blocks === 0) return;
    await sleep(clock, POLL_MS, signal);
  }
  screen.say(`The index still holds ${blocks ?? "unknown"} blocks though the engines are empty.`);
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
