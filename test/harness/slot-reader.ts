/** A reader's thread of hot-index.test.ts: matches a prompt until it is told to end. */
import { parentPort, workerData } from "node:worker_threads";
import { holderName } from "../../src/core/ids.ts";
import { TableReader } from "../../src/indexer/table-reader.ts";

/** Matches between two looks at the messages. */
const TURN_MATCHES = 100;

const { handle, prompt } = workerData;
const reader = new TableReader(handle);
const names = new Set<string>();
const wrong: string[] = [];
let answers = 0;
let isOver = false;
parentPort?.once("message", () => {
  isOver = true;
});
parentPort?.postMessage("ready");
while (!isOver) {
  for (let turn = 0; turn < TURN_MATCHES; turn += 1) {
    for (const { holder, blocks } of reader.match(prompt)) {
      answers += 1;
      names.add(holderName(holder));
      if (blocks !== holder.rank + 1 && wrong.length < 5) {
        wrong.push(`${holderName(holder)} has ${blocks} blocks`);
      }
    }
  }
  await new Promise((resolve) => setImmediate(resolve));
}
parentPort?.postMessage({ answers, names: names.size, wrong });
parentPort?.close();
