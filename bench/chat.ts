/** A long chat as a client sends it, turn after turn. */

const MESSAGES = 100;
const MESSAGE_WORDS = 350;

/**
 * A chat of 220 KB in 100 messages and a last one with `content`; with another `seed` all of its
 * messages are others.
 */
export function chatBody(content: string, seed = 0): Buffer {
  const messages = Array.from({ length: MESSAGES }, (_, i) => ({
    role: i % 2 === 0 ? "user" : "assistant",
    content: wordsOf(i, seed),
  }));
  return Buffer.from(
    JSON.stringify({ model: "bench", messages: [...messages, { role: "user", content }] }),
  );
}

function wordsOf(message: number, seed: number): string {
  const words = Array.from(
    { length: MESSAGE_WORDS },
    (_, i) => WORDS[(message * 7 + i * i + i * seed) % WORDS.length],
  );
  return (seed === 0 ? words : [seed, ...words]).join(" ");
}

const WORDS = (
  "the quick brown fox jumps over a lazy dog while engineers measure caches, blocks & tokens " +
  "in 2026; nobody (really) knows how much of a prompt is new. Antworten k\u00f6nnen l\u00e4nger sein"
).split(" ");
