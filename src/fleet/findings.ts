/**
 * Why an endpoint's KV events are missing or of no use: observed facts in, named findings with
 * their fix out. Pure.
 */

import type { EngineName } from "../core/engine-name.ts";
import type { EndpointSpec } from "./endpoint.ts";
import type { Silence } from "./expected-events.ts";

/** Time without any connection after which a socket counts as never connected, ms. */
const CONNECT_GRACE_MS = 10_000;
/** Time for which an undecodable message is told, ms. */
const UNDECODABLE_TOLD_MS = 300_000;

/**
 * - events-silent: blocks should have been stored, and no KV event tells of it
 * - never-connected: the socket of the KV events never had a connection
 * - undecodable: messages arrive that are no KV events of a known form
 * - identity-mismatch: the topic names another address or model than configured
 * - rank-unfollowed: events come of a rank that is not configured
 * - block-size-mismatch: the engine's metrics and its events differ about the block size
 * - prompt-mismatch: prompts become other token ids at the engine than here
 */
export type FindingName =
  | "events-silent"
  | "never-connected"
  | "undecodable"
  | "identity-mismatch"
  | "rank-unfollowed"
  | "block-size-mismatch"
  | "prompt-mismatch";

export interface Finding {
  readonly name: FindingName;
  /** What was observed. */
  readonly detail: string;
  /** What to do about it. */
  readonly fix: string;
}

/** What was seen of one rank's events. */
export interface RankFacts {
  readonly rank: number;
  /** Where its events are read from, as configured. */
  readonly address: string;
  /** Time for which its socket has been followed, ms. */
  readonly followedMs: number;
  /** Connections that stood so far. */
  readonly handshakes: number;
  /** Topic of the newest message; null: none. */
  readonly topic: string | null;
  readonly undecodable: UndecodableSeen | null;
  /** Highest rank of events that came here and that nobody follows; null: none. */
  readonly otherRank: number | null;
  /** Block sizes in its events; none: no block was stored. */
  readonly blockSizesTokens: readonly number[];
}

export interface UndecodableSeen {
  readonly count: number;
  readonly reason: string;
  /** First bytes of the newest one in hex, bounded by whoever keeps it. */
  readonly sampleHex: string;
  readonly ageMs: number;
}

export interface EndpointFacts {
  readonly spec: EndpointSpec;
  /** False while its server does not answer: it then cannot be expected to publish. */
  readonly isReachable: boolean;
  /** Block size in its metrics; null: not told. */
  readonly scrapedBlockSizeTokens: number | null;
  readonly silence: Silence | null;
  readonly ranks: readonly RankFacts[];
}

/** At most one finding of each name; its first rank speaks for the others. */
export function findingsOf(facts: EndpointFacts): Finding[] {
  const { kvEvents } = facts.spec;
  if (kvEvents === null) return [];
  const { engine } = kvEvents;
  return [
    facts.silence === null ? null : eventsSilent(facts.silence, engine),
    facts.isReachable ? firstOf(facts.ranks, (rank) => neverConnected(rank, engine)) : null,
    firstOf(facts.ranks, undecodable),
    firstOf(facts.ranks, (rank) => identityMismatch(rank, facts.spec)),
    firstOf(facts.ranks, rankUnfollowed),
    firstOf(facts.ranks, (rank) => blockSizeMismatch(rank, facts.scrapedBlockSizeTokens)),
  ].filter((finding) => finding !== null);
}

function firstOf(
  ranks: readonly RankFacts[],
  find: (rank: RankFacts) => Finding | null,
): Finding | null {
  for (const rank of ranks) {
    const finding = find(rank);
    if (finding !== null) return finding;
  }
  return null;
}

function eventsSilent({ requests, silentMs }: Silence, engine: EngineName): Finding {
  return {
    name: "events-silent",
    detail: `${requests} answered requests brought blocks to store, and no KV event came for ${seconds(silentMs)}`,
    fix:
      engine === "trtllm"
        ? "start TensorRT-LLM with kv_cache_config: { enable_block_reuse: true, event_buffer_max_size: 16384 }, and let nothing else read /kv_cache_events, which forgets what it has answered"
        : `start vLLM with --enable-prefix-caching and --kv-events-config '{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557"}', and point kvEvents.address at that port; check kvEvents.topic against its topic`,
  };
}

function neverConnected(
  { rank, address, followedMs, handshakes }: RankFacts,
  engine: EngineName,
): Finding | null {
  if (handshakes > 0 || followedMs < CONNECT_GRACE_MS) return null;
  return {
    name: "never-connected",
    detail: `rank ${rank}: nothing has answered at ${address} for ${seconds(followedMs)}`,
    fix:
      engine === "trtllm"
        ? "make kvEvents.address the URL of the engine's /kv_cache_events, as http://HOST:PORT/kv_cache_events; check port, network policy and firewall"
        : "give the engine an endpoint with * in its address, such as tcp://*:5557: with a concrete host it connects in place of binding, and nothing listens there; check port (rank r is at port + r), network policy and firewall",
  };
}

function rankUnfollowed({ address, otherRank }: RankFacts): Finding | null {
  if (otherRank === null) return null;
  return {
    name: "rank-unfollowed",
    detail: `events of rank ${otherRank} come from ${address}, and no such rank is configured: its blocks are not known`,
    fix: `set kvEvents.ranks of this endpoint to the number of its data-parallel ranks, ${otherRank + 1} or more`,
  };
}

function undecodable({ rank, undecodable: seen }: RankFacts): Finding | null {
  if (seen === null || seen.ageMs >= UNDECODABLE_TOLD_MS) return null;
  const { count, reason, sampleHex } = seen;
  return {
    name: "undecodable",
    detail: `rank ${rank}: ${count} messages refused, the last one as ${reason}; it begins with ${sampleHex === "" ? "nothing" : sampleHex}`,
    fix: "check that kvEvents.address is the KV event port of a vLLM engine (and not its replay or another ZMQ port); if it is, its version writes a form that this kvatlas does not know: report the sample",
  };
}

/** "kv@ADDRESS@MODEL", as llm-d's deployments of vLLM name their topics. */
const IDENTITY_TOPIC = /^kv@([^@]+)@(.+)$/;

function identityMismatch({ rank, topic }: RankFacts, spec: EndpointSpec): Finding | null {
  const [, address, model] = IDENTITY_TOPIC.exec(topic ?? "") ?? [];
  if (address === undefined || model === undefined) return null;
  const problems = [
    ...(isAddressOf(address, spec) ? [] : [`address ${address}, configured is ${spec.id}`]),
    ...(model === spec.model ? [] : [`model ${model}, configured is ${spec.model}`]),
  ];
  if (problems.length === 0) return null;
  return {
    name: "identity-mismatch",
    detail: `rank ${rank}: the topic names ${problems.join(", and ")}`,
    fix: "make address, model and kvEvents.address of this endpoint those of one engine: its blocks are else counted for another pod, or keyed for another model",
  };
}

/** The host alone, or host and port; data-parallel ranks may count their ports from the first. */
function isAddressOf(address: string, { id, kvEvents }: EndpointSpec): boolean {
  const colon = id.lastIndexOf(":");
  const host = id.slice(0, colon);
  if (bare(address) === bare(host)) return true;
  const port = Number(address.slice(address.lastIndexOf(":") + 1));
  const isHostSame = bare(address.slice(0, address.lastIndexOf(":"))) === bare(host);
  const rank = port - Number(id.slice(colon + 1));
  return isHostSame && rank >= 0 && rank < (kvEvents?.ranks ?? 1);
}

function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, "$1").toLowerCase();
}

function blockSizeMismatch(rank: RankFacts, scraped: number | null): Finding | null {
  const told = rank.blockSizesTokens;
  if (told.length === 0 || scraped === null || told.includes(scraped)) return null;
  return {
    name: "block-size-mismatch",
    detail: `rank ${rank.rank}: blocks of ${told.join(", ")} tokens in the events, of ${scraped} in the metrics`,
    fix: "make kvEvents.address and metrics of this endpoint those of one engine; if they are, the events' size is the one that is used",
  };
}

function seconds(ms: number): string {
  return `${Math.floor(ms / 1000)} s`;
}
