/** Bodies of the engines' own APIs: vLLM's `/inference/v1/generate`, SGLang's `/generate`. */
import { type Result, refused } from "../core/result.ts";
import {
  type BodyRefusal,
  type Fields,
  isGiven,
  type Prompt,
  readTextOrTokens,
} from "./prompt-fields.ts";

/** `features` say where images stand among the token ids. */
export function readInferenceBody(fields: Fields): Result<Prompt, BodyRefusal> {
  if (isGiven(fields["features"])) return refused("multimodal", "the token ids have features");
  return readTextOrTokens(fields["token_ids"], { name: "token_ids", isSpecialAdded: null });
}

const SGLANG_MEDIA = ["image_data", "audio_data", "video_data", "input_embeds"] as const;

export function readSglangBody(fields: Fields): Result<Prompt, BodyRefusal> {
  const medium = SGLANG_MEDIA.find((name) => isGiven(fields[name]));
  if (medium !== undefined) return refused("multimodal", `field ${medium} is not text`);
  const name = isGiven(fields["input_ids"]) ? "input_ids" : "text";
  return readTextOrTokens(fields[name], { name, isSpecialAdded: null });
}
