/** The two files with which the tour's router is started: the same that a user writes. */
import { stringify } from "yaml";
import { PREFILL_TOKENS_PER_SECOND, TOUR_ENGINE } from "./tour-setup.ts";

export interface EngineAddresses {
  /** host:port */
  readonly address: string;
  /** tcp://host:port */
  readonly kvEventsAddress: string;
  readonly replayAddress: string | null;
}

/** kvatlas.yaml; `natsAddress` null: events go straight from the engines into the index. */
export function routerYaml(natsAddress: string | null): string {
  return stringify({
    apiVersion: "kvatlas/v1",
    pool: "tour",
    model: TOUR_ENGINE.model,
    fleet: { endpointsFile: "endpoints.yaml", scrapeMs: 500 },
    events:
      natsAddress === null
        ? { transport: "direct" }
        : { transport: "nats", nats: { servers: [natsAddress] } },
    index: { path: "index" },
    router: {
      prefillTokensPerSecond: PREFILL_TOKENS_PER_SECOND,
      attentionSecondsPerPair: TOUR_ENGINE.attnSecondsPerPair,
      stepSeconds: TOUR_ENGINE.stepBaseSeconds,
      chunkTokens: TOUR_ENGINE.chunkTokens,
    },
    // Nobody but the tour sends requests here, and it stops sending first: no need to drain.
    extProc: {
      listen: "127.0.0.1:0",
      healthListen: "127.0.0.1:0",
      drainMs: 1000,
      drainNoticeMs: 0,
    },
    query: { listen: null },
    observe: { adminListen: "127.0.0.1:0" },
  });
}

/** endpoints.yaml */
export function endpointsYaml(engines: readonly EngineAddresses[]): string {
  return stringify({
    endpoints: engines.map(({ address, kvEventsAddress, replayAddress }, index) => ({
      name: `pod-${index + 1}`,
      address,
      kvEvents: { address: kvEventsAddress, replay: replayAddress, topic: TOUR_ENGINE.topic },
    })),
  });
}
