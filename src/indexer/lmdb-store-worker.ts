/** The store's own thread: opens, reads and writes as it is asked, one thing after the other. */
import { parentPort } from "node:worker_threads";
import { assertNever } from "../core/assert.ts";
import { messageOf } from "../core/errors.ts";
import { moveAside, openGuarded } from "./file-store-guard.ts";
import { LmdbStore } from "./lmdb-store.ts";
import type { StoreAnswer, StoreRequest } from "./lmdb-store-thread.ts";
import { storeProblemOf } from "./store-problem.ts";

let store: LmdbStore | null = null;
let place = { path: "", keySeed: 0 };
let endOpening = (): void => {};

parentPort?.on("message", (request: StoreRequest) => {
  void answer(request)
    .catch((error): StoreAnswer => {
      return { type: "failed", problem: storeProblemOf(error), message: messageOf(error) };
    })
    .then((given) => {
      parentPort?.postMessage(given, memoryOf(given));
    });
});

async function answer(request: StoreRequest): Promise<StoreAnswer> {
  switch (request.type) {
    case "open": {
      place = request;
      const guarded = openGuarded(place.path, openStore);
      store = guarded.store;
      endOpening = guarded.end;
      return { type: "opened", contents: store.contents, aside: guarded.aside };
    }
    case "read": {
      const portion = store?.read(request.bytesMax) ?? null;
      if (portion !== null) return { type: "portion", portion };
      endOpening();
      return { type: "done" };
    }
    case "write":
      store?.write(request.flush);
      return { type: "written", memory: request.flush.bytes.buffer };
    case "renew":
      await store?.close().catch(() => {});
      moveAside(place.path, "damaged");
      store = openStore();
      return { type: "done" };
    case "close":
      await store?.close();
      store = null;
      return { type: "done" };
    default:
      return assertNever(request);
  }
}

/** Handed over, not copied. */
function memoryOf(given: StoreAnswer): ArrayBuffer[] {
  if (given.type === "portion") return [given.portion.bytes.buffer];
  return given.type === "written" ? [given.memory] : [];
}

function openStore(): LmdbStore {
  return new LmdbStore(place.path, place.keySeed);
}
