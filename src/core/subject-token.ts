/** A name as one token of a NATS subject: different names never give the same token. */
export function subjectToken(text: string): string {
  return encodeURIComponent(text).replaceAll(".", "%2E").replaceAll("*", "%2A");
}
