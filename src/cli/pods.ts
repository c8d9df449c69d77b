/** `kvatlas pods`: asks the admin server and prints a line for each rank. */
import { z } from "zod";
import { askAdmin } from "./http-ask-admin.ts";
import { printLine, printTable } from "./print.ts";

/** As commander hands them over. */
export interface PodsFlags {
  readonly url: string;
  readonly output: string;
}

const podsSchema = z.object({
  pods: z.array(
    z.object({
      name: z.string(),
      endpoint: z.string(),
      role: z.string(),
      ready: z.string(),
      requests: z.number(),
      signalAgeMs: z.number().nullable(),
      state: z.string(),
      reason: z.string().nullable(),
      assumedBlocks: z.number(),
      audit: z.object({
        state: z.string(),
        overRatio: z.number(),
        underRatio: z.number(),
        samples: z.number(),
        resyncs: z.number(),
      }),
      parity: z.object({ state: z.string() }),
      findings: z.array(z.object({ name: z.string(), detail: z.string(), fix: z.string() })),
      ranks: z.array(
        z.object({
          rank: z.number(),
          state: z.string(),
          reason: z.string().nullable(),
          epoch: z.number().nullable(),
          seq: z.number().nullable(),
          blocks: z.number(),
          blockSizeTokens: z.number().nullable(),
        }),
      ),
    }),
  ),
});
type Pod = z.infer<typeof podsSchema>["pods"][number];

const HEAD = [
  ...["POD", "ENDPOINT", "ROLE", "READY", "IN FLIGHT", "RANK", "STATE", "BLOCKS", "SEQ", "EPOCH"],
  ...["AUDIT", "PARITY"],
];

export async function showPods({ url, output }: PodsFlags): Promise<void> {
  const { pods } = await askAdmin({ url, path: "/pods" }, podsSchema);
  if (output === "json") {
    await printLine(JSON.stringify(pods, null, 2));
    return;
  }
  await printTable([HEAD, ...pods.flatMap(rowsOf)]);
  for (const { name, findings } of pods) {
    for (const { name: finding, detail, fix } of findings) {
      process.stdout.write(`\n${name}: ${finding}: ${detail}\n  fix: ${fix}\n`);
    }
  }
}

function rowsOf({ name, endpoint, role, ...pod }: Pod): string[][] {
  const { ready, requests, audit, parity, ranks } = pod;
  const place = [name, endpoint, role, ready, String(requests)];
  return ranks.map(({ rank, state, reason, blocks, seq, epoch }) => [
    ...place,
    String(rank),
    reason === null ? state : `${state}(${reason})`,
    String(blocks),
    seq === null ? "-" : String(seq),
    epoch === null ? "-" : String(epoch),
    audit.state,
    parity.state,
  ]);
}
