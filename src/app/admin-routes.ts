/** What the admin server answers beside metrics and health: pods, decisions and index. */
import type { DecisionRing } from "../observe/decision-ring.ts";
import type { AdminAnswer, AdminRoute } from "../observe/http-admin.ts";
import type { IndexQueries } from "../query/index-queries.ts";
import { keysQuery, QUERY_BODY_BYTES_MAX, tokensQuery } from "../query/prompt-query.ts";
import { decisionRecord, type RecordedRequest } from "../router/decision-record.ts";
import type { KeptDecision } from "../router/kept-decision.ts";
import type { PodReport } from "./pods-report.ts";

export interface AdminRoutesDeps {
  readonly pods: () => readonly PodReport[];
  readonly queries: IndexQueries;
  readonly decisions: DecisionRing<KeptDecision<RecordedRequest>>;
}

export function adminRoutes({ pods, queries, decisions }: AdminRoutesDeps): AdminRoute[] {
  const ok = (body: unknown): AdminAnswer => ({ status: 200, body });
  return [
    { path: "/pods", handle: () => ok({ pods: pods() }) },
    {
      path: "/why",
      handle: ({ searchParams }): AdminAnswer => {
        const kept = decisions.find(searchParams.get("id") ?? "");
        return ok({ decision: kept === null ? null : decisionRecord(kept), kept: decisions.size });
      },
    },
    { path: "/index/stats", handle: () => ok(queries.stats()) },
    {
      path: "/index/query",
      bodyBytesMax: QUERY_BODY_BYTES_MAX,
      handle: ({ searchParams }, body): AdminAnswer => {
        const text = (name: string): string => searchParams.get(name) ?? "";
        const query = searchParams.has("blockSize")
          ? keysQuery(body, Number(text("blockSize")))
          : tokensQuery(body, { lora: text("lora"), cacheSalt: text("salt") });
        if (query.ok) return ok(queries.match(query.value));
        return { status: 400, body: { error: `${query.reason}: ${query.detail}` } };
      },
    },
  ];
}
