/**
 * Every metric of kvatlas, declared once: docs/metrics.md is generated from this table, and the
 * types below keep other names out of the code. Base units; labels are closed sets or endpoints.
 */

interface MetricSpec {
  readonly help: string;
  readonly labels: readonly string[];
}

export const COUNTERS = {
  kvatlas_events_messages_total: {
    help: "KV event messages read from engines.",
    labels: ["endpoint"],
  },
  kvatlas_events_refused_total: {
    help: "KV event messages or events not used, by reason; what else the message held is kept.",
    labels: ["reason"],
  },
  kvatlas_events_blocks_total: {
    help: "Blocks in applied KV events, by kind of event (stored, removed).",
    labels: ["kind"],
  },
  kvatlas_events_gaps_total: {
    help: "Gaps in an engine's sequence numbers.",
    labels: ["endpoint"],
  },
  kvatlas_events_missed_messages_total: {
    help: "Messages missing in sequence gaps.",
    labels: ["endpoint"],
  },
  kvatlas_events_replays_total: {
    help: "Replays asked of engines, by outcome (ended, failed).",
    labels: ["outcome"],
  },
  kvatlas_events_polls_total: {
    help: "Polls of TensorRT-LLM's events, by outcome (answered, or why not).",
    labels: ["outcome"],
  },
  kvatlas_events_restarts_total: {
    help: "Engine restarts seen in sequences.",
    labels: ["endpoint"],
  },
  kvatlas_nats_published_total: { help: "KV event batches acknowledged by JetStream.", labels: [] },
  kvatlas_nats_errors_total: {
    help: "Failed JetStream operations, by operation.",
    labels: ["operation"],
  },
  kvatlas_gossip_messages_total: {
    help: "Messages between routers, by outcome (sent; taken, or why not: form, full, oversized).",
    labels: ["outcome"],
  },
  kvatlas_snapshots_total: {
    help: "Snapshots for new replicas, by operation (write, load) and outcome.",
    labels: ["operation", "outcome"],
  },
  kvatlas_index_reads_abandoned_total: {
    help: "Answers of the index that were given up because the write path stood still amid a write; they were empty.",
    labels: [],
  },
  kvatlas_matches_cut_total: {
    help: "Prompts of which not every place was looked at where blocks may change their size: a match may be too short.",
    labels: [],
  },
  kvatlas_index_refused_total: {
    help: "Entries that the index had no room for, by limit (table: blocks or sets of holders; holders).",
    labels: ["limit"],
  },
  kvatlas_index_evicted_blocks_total: {
    help: "Blocks that left a full index for others, by the endpoint that has them.",
    labels: ["endpoint"],
  },
  kvatlas_ingest_crashes_total: {
    help: "Failures of the write path's thread, which is begun again.",
    labels: [],
  },
  kvatlas_store_flushes_total: {
    help: "LMDB write-behind transactions, by outcome (written, late, failed).",
    labels: ["outcome"],
  },
  kvatlas_store_restores_total: {
    help: "Openings of the LMDB store, by outcome (whole, damaged, failed).",
    labels: ["outcome"],
  },
  kvatlas_store_pages_total: { help: "Pages of rows written to LMDB.", labels: [] },
  kvatlas_scrapes_total: { help: "Scrapes of engine metrics, by outcome.", labels: ["outcome"] },
  kvatlas_fleet_reloads_total: {
    help: "Reloads of the endpoints file, by outcome.",
    labels: ["outcome"],
  },
  kvatlas_inflight_dropped_total: {
    help: "Own requests that the in-flight ledger does not hold, by reason (full, expired).",
    labels: ["reason"],
  },
  kvatlas_prompt_requests_total: {
    help: "Request bodies by how their token ids were had (given, memo, local, engine, none) and why not.",
    labels: ["source", "reason"],
  },
  kvatlas_prompt_parity_checks_total: {
    help: "Comparisons of an endpoint's token ids with ours, by outcome.",
    labels: ["endpoint", "state"],
  },
  kvatlas_decisions_total: {
    help: "Decisions by outcome (routed, or the reason of the refusal).",
    labels: ["outcome"],
  },
  kvatlas_withdrawn_decisions_total: {
    help: "Routed decisions that came too late to the thread that serves, so that the request was decided once more, or given up.",
    labels: [],
  },
  kvatlas_approximate_decisions_total: {
    help: "Decisions by chunks of a prompt's text because its tokens were not there, by why not.",
    labels: ["reason"],
  },
  kvatlas_approximate_tokens_total: {
    help: "Prompt tokens guessed to be cached at the endpoint chosen by such a decision; in no other count of tokens but kvatlas_prompt_tokens_total.",
    labels: [],
  },
  kvatlas_endpoint_decisions_total: { help: "Requests sent to an endpoint.", labels: ["endpoint"] },
  kvatlas_popularity_capped_total: {
    help: "Decisions in which the popularity cap moved a request off its cheapest endpoint: to another holder of the prefix (popularity-cap), or to a new one (next-holder).",
    labels: ["outcome"],
  },
  kvatlas_holds_total: {
    help: "Requests that came in overload, by what became of them (held, full).",
    labels: ["outcome"],
  },
  kvatlas_prompt_tokens_total: { help: "Prompt tokens of decided requests.", labels: [] },
  kvatlas_predicted_tokens_total: {
    help: "Prompt tokens predicted to be cached at the chosen endpoint.",
    labels: [],
  },
  kvatlas_possible_tokens_total: {
    help: "Prompt tokens cached at the best holder, chosen or not: what was possible.",
    labels: [],
  },
  kvatlas_delivered_tokens_total: {
    help: "Cached prompt tokens that the engines reported in usage.",
    labels: [],
  },
  kvatlas_audit_samples_total: {
    help: "Answers compared with their prediction, by outcome (exact, over, under, stale; not judged: dropped, superseded).",
    labels: ["endpoint", "outcome"],
  },
  kvatlas_audit_resyncs_total: {
    help: "Endpoints whose holders started anew because predictions exceeded what was delivered.",
    labels: ["endpoint"],
  },
  kvatlas_extproc_streams_total: {
    help: "ext_proc streams by how they ended.",
    labels: ["outcome"],
  },
  kvatlas_extproc_refused_total: {
    help: "Requests or messages refused at the Envoy edge, by reason.",
    labels: ["reason"],
  },
  kvatlas_extproc_usage_unread_total: {
    help: "Answers that passed to their end without their token counts having been read, by reason.",
    labels: ["reason"],
  },
  kvatlas_extproc_fallbacks_total: {
    help: "Requests decided without their tokens because the decision was late or failed (reason), by chunks of their text, by load alone, by load of a moment ago where the deciding thread was late, or refused (by: text, load, old-load, none).",
    labels: ["reason", "by"],
  },
  kvatlas_extproc_worker_crashes_total: {
    help: "Failures of threads that serve the ext_proc address; the streams of one end with it.",
    labels: [],
  },
  kvatlas_extproc_tls_reloads_total: {
    help: "Changed certificate files of the ext_proc address, by outcome (taken, refused).",
    labels: ["outcome"],
  },
  kvatlas_query_requests_total: {
    help: "Calls of the gRPC query service, by method.",
    labels: ["method"],
  },
  kvatlas_query_refused_total: {
    help: "Calls and connections that the query service refused, by reason.",
    labels: ["reason"],
  },
} as const satisfies Record<string, MetricSpec>;

export const GAUGES = {
  kvatlas_build_info: {
    help: "Constant 1, with version and Node version.",
    labels: ["version", "node"],
  },
  kvatlas_index_blocks: { help: "Distinct block keys in the index.", labels: [] },
  kvatlas_index_bytes: {
    help: "Bytes of memory of the index, by part (table, residency).",
    labels: ["part"],
  },
  kvatlas_index_entries: {
    help: "(block, endpoint, rank, tier) entries in the index.",
    labels: ["tier"],
  },
  kvatlas_index_lag_seconds: {
    help: "Age of the newest applied KV event batch when it was applied, per endpoint.",
    labels: ["endpoint"],
  },
  kvatlas_holder_state: {
    help: "1 for the state a holder is in: EXACT, or DEGRADED or FALLBACK with its reason.",
    labels: ["endpoint", "rank", "state", "reason"],
  },
  kvatlas_finding: {
    help: "1 while something is wrong with an endpoint's KV events or tokens; /pods says how to mend it.",
    labels: ["endpoint", "finding"],
  },
  kvatlas_prompt_parity: {
    help: "1 for whether prompts become the same token ids at an endpoint as here.",
    labels: ["endpoint", "state"],
  },
  kvatlas_assumed_blocks: {
    help: "Blocks assumed at an endpoint without KV events.",
    labels: ["endpoint"],
  },
  kvatlas_assumed_chunks: {
    help: "Chunks of text, 512 bytes each, that an endpoint answered of late.",
    labels: ["endpoint"],
  },
  kvatlas_audit_state: {
    help: "1 for the state of an endpoint's audit (pending, ok, drifted, unavailable).",
    labels: ["endpoint", "state"],
  },
  kvatlas_audit_drift_ratio: {
    help: "Decayed mean of wrong predictions as a share of the prompt, by kind (over, under).",
    labels: ["endpoint", "kind"],
  },
  kvatlas_store_dirty_pages: {
    help: "Pages of rows waiting for the next LMDB flush.",
    labels: [],
  },
  kvatlas_store_lag_seconds: {
    help: "Age of the oldest change that is not in LMDB.",
    labels: [],
  },
  kvatlas_store_problem: {
    help: "1 for the reason why LMDB is not written.",
    labels: ["problem"],
  },
  kvatlas_gossip_connected: {
    help: "1 while this router can tell others what it dispatches.",
    labels: [],
  },
  kvatlas_gossip_peers: { help: "Other routers that are heard.", labels: [] },
  kvatlas_nats_connected: { help: "1 while the NATS connection is up.", labels: [] },
  kvatlas_nats_pending_batches: { help: "KV event batches waiting for JetStream.", labels: [] },
  kvatlas_bootstrap_seconds: {
    help: "From the first connection to NATS to the end of the log's tail, by source (log, snapshot).",
    labels: ["source"],
  },
  kvatlas_endpoint_ready: {
    help: "1 while an endpoint may be given requests.",
    labels: ["endpoint"],
  },
  kvatlas_endpoint_inflight: { help: "Own requests in flight.", labels: ["endpoint"] },
  kvatlas_endpoint_waiting: {
    help: "Requests waiting in the engine, as scraped.",
    labels: ["endpoint"],
  },
  kvatlas_endpoint_running: {
    help: "Requests running in the engine, as scraped.",
    labels: ["endpoint"],
  },
  kvatlas_endpoint_kv_usage_ratio: {
    help: "Used share of KV blocks, as scraped.",
    labels: ["endpoint"],
  },
  kvatlas_endpoint_signal_age_seconds: { help: "Age of the newest scrape.", labels: ["endpoint"] },
  kvatlas_endpoint_speed_ratio: {
    help: "Learned prefill speed; 1 is that of the configured model.",
    labels: ["endpoint"],
  },
  kvatlas_held_requests: { help: "Requests held in overload.", labels: [] },
  kvatlas_held_bytes: { help: "Bytes of the bodies of held requests.", labels: [] },
  kvatlas_degraded: {
    help: "1 for each component that works below its full function.",
    labels: ["component"],
  },
} as const satisfies Record<string, MetricSpec>;

export const HISTOGRAMS = {
  kvatlas_decision_seconds: {
    help: "From the end of the request body to the answer to Envoy.",
    labels: [],
  },
  kvatlas_hold_seconds: { help: "Time for which a request was held in overload.", labels: [] },
  kvatlas_match_seconds: { help: "Longest-prefix match of one request.", labels: [] },
  kvatlas_ttft_seconds: {
    help: "From the decision to the first token of an answer that is streamed, or is one token, as seen at the Envoy edge.",
    labels: [],
  },
  kvatlas_tpot_seconds: {
    help: "Mean time between the tokens of a streamed answer, from its first one to its end.",
    labels: [],
  },
} as const satisfies Record<string, MetricSpec>;

export type CounterName = keyof typeof COUNTERS;
export type GaugeName = keyof typeof GAUGES;
export type HistogramName = keyof typeof HISTOGRAMS;
