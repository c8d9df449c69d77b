/** From a piece of text to its token id: a hash, because a made-up vocabulary needs no table. */

/** Ids of pieces are below this; special tokens lie above. */
const PIECE_VOCABULARY = 128_000;

/** Token id of text[start, end): FNV-1a over the UTF-16 code units, mixed, modulo the vocabulary. */
export function pieceToken(text: string, start: number, end: number): number {
  let state = 0x811c9dc5;
  for (let index = start; index < end; index++) {
    state = Math.imul(state ^ text.charCodeAt(index), 0x01000193);
  }
  state = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
  return ((state ^ (state >>> 13)) >>> 0) % PIECE_VOCABULARY;
}
