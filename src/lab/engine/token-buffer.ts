/** Token ids that are appended one by one, without an object per token. */

const CAPACITY_MIN = 256;

export class TokenBuffer {
  #tokens = new Uint32Array(CAPACITY_MIN);
  #length = 0;

  push(token: number): void {
    if (this.#length === this.#tokens.length) {
      const larger = new Uint32Array(this.#length * 2);
      larger.set(this.#tokens);
      this.#tokens = larger;
    }
    this.#tokens[this.#length] = token;
    this.#length += 1;
  }

  toArray(): Uint32Array {
    return this.#tokens.slice(0, this.#length);
  }
}
