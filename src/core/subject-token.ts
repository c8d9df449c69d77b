/** A name as one token of a NATS subject: different names never give the same token. */
export function subjectToken(text: string): string {
  return encodeURIComponent(text).replaceAll(".", "%2E").replaceAll("*", "%2A");
}

/** The name of such a token; null: it is none. */
export function tokenText(token: string): string | null {
  try {
    return decodeURIComponent(token);
  } catch {
    return null;
  }
}
