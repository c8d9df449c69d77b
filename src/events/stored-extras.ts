/** What enters the keys of a store's blocks beside their tokens: salts and images, as the event tells them. */
import { type ExtraKey, extraText, withSalt } from "../keys/extra-keys.ts";
import type { BlockStored } from "./kv-event.ts";

/** One text for each block; null: the event tells none. */
export function extrasOfStored(event: BlockStored): (string | null)[] | null {
  const blocks = saltedExtras(event);
  return blocks?.map((block) => extraText(withoutLora(block, event.loraName))) ?? null;
}

/** SGLang's salt enters its first block only, as in vLLM: the chain carries it on. */
function saltedExtras({
  cacheSalt,
  extraKeys,
  parent,
  handles,
}: BlockStored): readonly (readonly ExtraKey[] | null)[] | null {
  if (cacheSalt === undefined || parent !== null) return extraKeys;
  const blocks = extraKeys ?? Array.from(handles, () => null);
  return blocks.map((block, depth) => (depth === 0 ? withSalt(block, cacheSalt) : block));
}

/** vLLM repeats the adapter's name as the first extra; it is part of the namespace already. */
export function withoutLora(
  extras: readonly ExtraKey[] | null,
  loraName: string | null,
): readonly ExtraKey[] | null {
  return extras !== null && loraName !== null && extras[0] === loraName ? extras.slice(1) : extras;
}
