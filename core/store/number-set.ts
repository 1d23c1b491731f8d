/** A set of whole numbers from 0: a bit for each number up to the largest, and three while it grows. */
export class NumberSet {
  #bits = new Uint8Array(1024);

  add(number: number): void {
    const at = Math.floor(number / 8);
    if (at >= this.#bits.length) {
      const grown = new Uint8Array(Math.max(2 * this.#bits.length, at + 1));
      grown.set(this.#bits);
      this.#bits = grown;
    }
    this.#bits[at] = this.#bits[at]! | (1 << (number % 8));
  }

  delete(number: number): void {
    const at = Math.floor(number / 8);
    if (at < this.#bits.length) this.#bits[at] = this.#bits[at]! & ~(1 << (number % 8));
  }

  has(number: number): boolean {
    return ((this.#bits[Math.floor(number / 8)] ?? 0) & (1 << (number % 8))) !== 0;
  }
}
