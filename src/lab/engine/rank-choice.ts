/** Which data-parallel rank serves a request: the one its header names, else the next in turn. */
import type { IncomingHttpHeaders } from "node:http";
import { assert } from "../../core/assert.ts";

/** vLLM's header. A value that is no rank of the engine is ignored. */
const RANK_HEADER = "x-data-parallel-rank";

export class RankChoice<Rank> {
  readonly #ranks: readonly Rank[];
  #turn = 0;

  constructor(ranks: readonly Rank[]) {
    assert(ranks.length > 0, "an engine has a rank");
    this.#ranks = ranks;
  }

  next(headers: IncomingHttpHeaders): Rank {
    const named = headers[RANK_HEADER];
    const wanted = typeof named === "string" && /^\d+$/.test(named) ? Number(named) : -1;
    const rank = this.#ranks[wanted] ?? this.#ranks[this.#turn % this.#ranks.length];
    assert(rank !== undefined, "turn within the ranks", { turn: this.#turn });
    if (this.#ranks[wanted] === undefined) this.#turn = (this.#turn + 1) % this.#ranks.length;
    return rank;
  }
}
