/**
 * Stores whose parent is not known: held until it is, with what was removed of them meanwhile.
 *
 * Bounded in events and tokens; an event beyond is dropped, oldest kept: its parent is the likelier to
 * come next.
 */
import { type EngineKey, engineKey } from "../core/ids.ts";
import { type BlockRemoved, type BlockStored, detached } from "./kv-event.ts";

/** Events held for one holder. */
export const ORPHANS_MAX = 4096;
/** Tokens of all events held for one holder. */
export const ORPHAN_TOKENS_MAX = 1_048_576;

interface Orphan {
  readonly event: BlockStored;
  readonly removals: BlockRemoved[];
}

export class Orphans {
  readonly #byParent = new Map<EngineKey, Orphan[]>();
  readonly #byHandle = new Map<EngineKey, Orphan>();
  #orphans = 0;
  #tokens = 0;

  get size(): number {
    return this.#orphans;
  }

  /** False when there is no room. */
  hold(event: BlockStored, parent: EngineKey): boolean {
    const tokens = this.#tokens + event.tokens.length;
    if (this.#orphans >= ORPHANS_MAX || tokens > ORPHAN_TOKENS_MAX) return false;
    const orphan: Orphan = { event: detached(event), removals: [] };
    const siblings = this.#byParent.get(parent);
    if (siblings === undefined) this.#byParent.set(parent, [orphan]);
    else siblings.push(orphan);
    for (const handle of event.handles) this.#byHandle.set(engineKey(handle), orphan);
    this.#orphans += 1;
    this.#tokens = tokens;
    return true;
  }

  /** Keeps a removal for a block that is held here. False: it is not. */
  removed(handle: EngineKey, removal: BlockRemoved): boolean {
    const orphan = this.#byHandle.get(handle);
    if (orphan === undefined) return false;
    orphan.removals.push({ ...removal, handles: BigUint64Array.of(handle) });
    return true;
  }

  /** Hands over, in order, what waited for this parent. */
  take(parent: EngineKey): (BlockStored | BlockRemoved)[] {
    const orphans = this.#byParent.get(parent);
    if (orphans === undefined) return [];
    this.#byParent.delete(parent);
    this.#orphans -= orphans.length;
    return orphans.flatMap((orphan) => {
      const { event, removals } = orphan;
      this.#tokens -= event.tokens.length;
      for (const each of event.handles) {
        const handle = engineKey(each);
        if (this.#byHandle.get(handle) === orphan) this.#byHandle.delete(handle);
      }
      return [event, ...removals];
    });
  }

  clear(): void {
    this.#byParent.clear();
    this.#byHandle.clear();
    this.#orphans = 0;
    this.#tokens = 0;
  }
}
