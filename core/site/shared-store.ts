import { Store, type StoreOptions } from "../store/store.ts";

/** A store that sessions of one process share: it is open, and locked, while one of them runs. */
export class SharedStore {
  readonly #dir: string;
  readonly #options: StoreOptions;
  #open: Promise<Store> | undefined;
  #users = 0;
  #closing: Promise<void> = Promise.resolve();

  constructor(dir: string, options: StoreOptions) {
    this.#dir = dir;
    this.#options = options;
  }

  /** Each user ends with `leave`, unless this rejects. */
  async enter(): Promise<Store> {
    this.#users++;
    this.#open ??= this.#closing.then(() => Store.open(this.#dir, this.#options));
    try {
      return await this.#open;
    } catch (error) {
      this.#users--;
      if (this.#users === 0) this.#open = undefined;
      throw error;
    }
  }

  /** Makes what was put last; closes the store with its last user. */
  async leave(): Promise<void> {
    const open = this.#open!;
    const store = await open;
    try {
      await store.flush();
    } finally {
      this.#users--;
      if (this.#users === 0) {
        this.#open = undefined;
        this.#closing = store.close();
        await this.#closing;
      }
    }
  }
}
