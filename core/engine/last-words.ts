/**
 * How a session comes to its end: the source says DONE, the destination answers with DONE. Who hears the answer knows that
 * all is settled; who gives it, only when it is acknowledged.
 */
export class LastWords {
  #said = false;
  #heard = false;
  #answered = false;
  #settled = false;

  say(): void {
    this.#said = true;
  }

  hear(): void {
    this.#heard = true;
    this.#answered = this.#said;
  }

  /**
   * Whether nothing that matters can still come or be said. It stays so.
   * @param acknowledged whether the peer has everything that this end has said
   */
  settled(acknowledged: boolean): boolean {
    this.#settled ||= this.#said && this.#heard && (this.#answered || acknowledged);
    return this.#settled;
  }
}
