/** `npm run bench:edge`: what a gateway gets from a router process, over real gRPC. */
import { edgeCases } from "./edge-cases.ts";
import { runBench } from "./report.ts";

await runBench(edgeCases());
