import { ShrinkerError } from "../errors.ts";

/** Where streams that are written wait until they may be shown under their names. */
export class CommitGate {
  readonly #opened = Promise.withResolvers<void>();

  constructor() {
    this.#opened.promise.catch(() => {});
  }

  /** Resolves when streams may be shown; rejects with why they may not. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  open(): void {
    this.#opened.resolve();
  }

  refuse(error: Error): void {
    this.#opened.reject(error);
  }

  /** Opens once all are written; refuses where one is not. */
  async settle(written: readonly Promise<unknown>[]): Promise<void> {
    const failed = (await Promise.allSettled(written)).find((result) => result.status === "rejected");
    if (!failed) return this.open();
    const because = (failed.reason as Error).message;
    this.refuse(new ShrinkerError("partial", `Not kept, as another stream failed (--all-or-nothing): ${because}`));
  }
}
