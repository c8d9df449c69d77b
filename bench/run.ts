/** `npm run bench`: what the steps of both paths cost, in one process. */
import { benchCases } from "./cases.ts";
import { runBench } from "./report.ts";

await runBench(await benchCases());
