/** Work that can be given up as a whole. */
export interface Guard {
  /** Why it was given up, once it was. */
  readonly failure: Error | undefined;
  /** What `promise` gives, unless the work is given up first. */
  wait<T>(promise: Promise<T>): Promise<T>;
  /** Gives up: all that waits, now or later, rejects. Only the first error counts. */
  fail(error: Error): void;
}

/** Not `Promise.race` with one long-lived promise: that would keep every result alive until the end. */
export function guard(): Guard {
  let failure: Error | undefined;
  const waiting = new Set<(error: Error) => void>();
  return {
    get failure() {
      return failure;
    },
    wait<T>(promise: Promise<T>): Promise<T> {
      return new Promise<T>((resolve, reject) => {
        waiting.add(reject);
        promise.then(resolve, reject).finally(() => waiting.delete(reject));
        if (failure !== undefined) reject(failure);
      });
    },
    fail(error) {
      failure ??= error;
      for (const reject of waiting) reject(failure);
      waiting.clear();
    },
  };
}
