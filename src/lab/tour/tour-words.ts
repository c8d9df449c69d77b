/** What the tour tells before and after its phases. Pure. */
import type { ReusableTokens } from "../workload/infinite-cache.ts";
import type { PlannedWork } from "../workload/planned-work.ts";
import { percent, thousands } from "./number-words.ts";
import type { TourParts } from "./tour-parts.ts";
import type { PhaseOutcome } from "./tour-phase.ts";
import { KV_TOKENS, PREFILL_TOKENS_PER_SECOND, TOUR_ENGINE } from "./tour-setup.ts";

/** Above this lateness of timers the machine, not the simulated GPUs, may set the times, ms. */
const LAG_MS_MAX = 10;

export function introduction(engines: number): string {
  return [
    "An engine that still holds the KV cache of a prompt's beginning need not compute it again.",
    "kvatlas follows what every engine holds and sends each request where most of it is cached.",
    `This tour sends the same work twice to the same ${engines} engines: first round robin, then kvatlas.`,
    "",
    `Simulated: ${engines} engines with vLLM's API, KV events and block pool. Each computes ` +
      `${thousands(PREFILL_TOKENS_PER_SECOND)} prompt tokens/s`,
    `  and has KV memory for ${thousands(KV_TOKENS)} tokens.`,
    "Real: kvatlas, as a process of its own (`kvatlas serve`), HTTP, ZMQ, and:",
  ].join("\n");
}

export function workText(
  work: PlannedWork,
  reuse: ReusableTokens,
  { seconds, engines }: { readonly seconds: number; readonly engines: number },
): string {
  const { requests, description } = work;
  const mean = reuse.promptTokens / Math.max(1, requests.length);
  const distinct = reuse.promptTokens - reuse.reusableTokens;
  const [first = "", ...more] = description;
  return [
    `Work: ${first}`,
    ...more.map((line) => `  ${line}`),
    `  = ${thousands(requests.length)} requests with ${thousands(mean)} prompt tokens on average; ` +
      `${percent(reuse.reusableTokens, reuse.promptTokens)} of the prompt tokens are reusable.`,
    `  Load: the engines can compute ${thousands(engines * PREFILL_TOKENS_PER_SECOND)} prompt tokens/s; ` +
      `without any cache the work asks for ${thousands(reuse.promptTokens / seconds)}/s, with each ` +
      `part computed once for ${thousands(distinct / seconds)}/s.`,
    `  To keep all of it, one engine would need KV memory for ${thousands(distinct)} tokens.`,
  ].join("\n");
}

/** Reasons to trust a phase's numbers less; empty when there are none. */
export function doubtsText({ lagMs, fallbacks }: PhaseOutcome): string[] {
  return [
    ...(lagMs > LAG_MS_MAX
      ? [
          `Note: this machine was busy (timers ${Math.round(lagMs)} ms late on average); that is in the times.`,
        ]
      : []),
    ...(fallbacks > 0 ? [`Note: ${fallbacks} requests were routed by load alone.`] : []),
  ];
}

export function failuresText({ failed, failures }: PhaseOutcome): string[] {
  if (failed === 0) return [];
  const reasons = [...failures].map(([reason, count]) => `${count} x ${reason}`);
  return [`${failed} requests failed: ${reasons.join("; ")}.`];
}

/** Longer than a block, so that there is something to reuse; no apostrophe, for the shell. */
const PROMPT =
  "You answer for the city library and name the shelf. " +
  "Where are the books about knots, sailing and the weather at sea?";

/** Addresses of what runs on, and commands that work as they stand. */
export function keptText({ engines, router, envoy }: TourParts): string {
  const target = envoy?.listenAddress ?? engines[0]?.address ?? "";
  const body = JSON.stringify({ model: TOUR_ENGINE.model, prompt: PROMPT, max_tokens: 8 });
  const front =
    envoy === null
      ? ["  Envoy     none; requests go to an engine directly"]
      : [`  Envoy     http://${target}  (admin http://${envoy.adminAddress})`];
  return [
    "\nEverything runs on until Ctrl-C:",
    ...front,
    `  kvatlas   http://${router.adminAddress}/metrics  http://${router.adminAddress}/readyz`,
    `            log ${router.logFile}`,
    ...engines.map(({ address }, index) => `  pod ${index + 1}     http://${address}`),
    "\nTry (twice: the second time usage shows cached_tokens):",
    `  curl -s http://${target}/v1/completions -H 'content-type: application/json' -d '${body}'`,
    `  curl -s http://${router.adminAddress}/readyz`,
    `  curl -s http://${router.adminAddress}/metrics | grep ^kvatlas_index`,
    `  npm run -s kvatlas -- pods --url http://${router.adminAddress}`,
  ].join("\n");
}
