/** docs/conformance.md: observed here, and compared; `npm run docs:conformance` writes it. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EnvoyRecipe } from "../../src/lab/file-envoy-recipe.ts";
import { requireBinary } from "../harness/binaries.ts";
import { conformancePage, type FailRow } from "../harness/conformance-page.ts";
import { FailMatrix, type Outcomes } from "../harness/fail-matrix.ts";
import { PRACTICE_MUSTS, PROTOCOL_MUSTS } from "../harness/protocol-musts.ts";

const envoy = await requireBinary("envoy");

describe("the demands of the protocol", () => {
  const shown = [...PROTOCOL_MUSTS, ...PRACTICE_MUSTS].flatMap(({ shownBy }) => shownBy);

  it.each(shown)("are shown by %s: %s", (file, title) => {
    const text = readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
    expect(text).toContain(title);
  });
});

describe.skipIf(envoy.isMissing)(`failures of the router through Envoy${envoy.note}`, () => {
  let matrix: FailMatrix;

  beforeAll(async () => {
    matrix = await FailMatrix.start();
  });
  afterAll(() => matrix?.stop());

  it("come out as docs/conformance.md says", { timeout: 60_000 }, async () => {
    // Those that take time first: they wait beside each other.
    matrix.freeze("hung");
    const hung = matrix.outcomes("hung");
    const silent = matrix.outcomes("silent");
    const slow = matrix.outcomes("slow");
    const outcomes = new Map<string, ReadonlyMap<EnvoyRecipe, Outcomes>>();
    const fleeting = ["down-unseen", "reset", "garbage", "out-of-order", "dead-endpoint"];
    for (const router of fleeting) outcomes.set(router, await matrix.outcomes(router));
    const killed = await matrix.killInAnswer("down");
    await matrix.untilHealth("down", false);
    const down = await matrix.outcomes("down");
    await matrix.untilHealth("hung", false);
    const hungSeen = await matrix.outcomes("hung");
    const of = (router: string): ReadonlyMap<EnvoyRecipe, Outcomes> =>
      outcomes.get(router) ?? new Map();

    const rows: FailRow[] = [
      {
        router: "down, before health checks have seen it",
        outcomes: of("down-unseen"),
        why:
          "for at most two seconds Envoy tries kvatlas, and loses the body that it had begun to send " +
          "there: in full duplex it does not keep a copy. (In the run the health check is left out.)",
      },
      {
        router: "down",
        outcomes: down,
        why:
          "with the health check and a panic threshold of 0 Envoy does not try kvatlas at all, so that " +
          "nothing is lost. Without them this row would be as the one above.",
      },
      {
        router: "hangs, a moment ago",
        outcomes: await hung,
        why:
          "the requests wait until Envoy finds that its HTTP/2 pings are not answered " +
          "(`connection_keepalive`), at most five seconds. Without that, bodies in full duplex would " +
          "wait for `stream_idle_timeout`, as ext_proc has no timer there. A body that is on its way " +
          "to kvatlas in full duplex is not kept by Envoy, so failing open cannot pass it on.",
      },
      {
        router: "hangs, and health checks have seen it",
        outcomes: hungSeen,
        why: "as down: two health checks, about three seconds, and fail-open passes every request.",
      },
      { router: "slow: answers after a second", outcomes: await slow },
      {
        router: "never answers one request, and is healthy",
        outcomes: await silent,
        why:
          "buffered requests end at `message_timeout`, those in full duplex at `stream_idle_timeout` " +
          "(here 1 s and 2 s, in the recipes 25 s and 600 s), and then fail even where failures are " +
          "allowed. kvatlas decides by load after `extProc.deadlineMs`, so that it does not come to this.",
      },
      {
        router: "resets the stream within the body",
        outcomes: of("reset"),
        why: "in full duplex what has gone to kvatlas cannot be passed on: 500 even with fail-open.",
      },
      { router: "answers with bytes that are no message", outcomes: of("garbage") },
      {
        router: "answers with a message out of order",
        outcomes: of("out-of-order"),
        why: "Envoy takes it for a failure, as it takes garbage.",
      },
      {
        router: "chooses an endpoint that takes no connection",
        outcomes: of("dead-endpoint"),
        why:
          "no failure of kvatlas, so the failure mode has no part in it; there is no retry, because " +
          "[Envoy would send bodies with trailers twice](gateways.md#retries). kvatlas stops choosing " +
          "such an endpoint after two scrapes.",
      },
    ];
    await expect(conformancePage(rows, await killed.ends)).toMatchFileSnapshot(
      "../../docs/conformance.md",
    );
  });
});
