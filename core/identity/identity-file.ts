import { stat } from "node:fs/promises";
import { stampOf } from "../files/stamp.ts";
import type { Identity } from "./identity.ts";

/** The identity of a process that may outlive its key: read again when its file was replaced, as `rotate` does it. */
export class IdentityFile {
  readonly #path: string;
  readonly #load: () => Promise<Identity>;
  readonly #note: (line: string) => void;
  #stamp: string | undefined;
  #identity: Identity | undefined;
  #loading: Promise<Identity> | undefined;

  /**
   * @param load reads it; asked again for each replacement
   * @param note told why a replacement can't be used, a line
   */
  constructor(path: string, load: () => Promise<Identity>, note: (line: string) => void) {
    this.#path = path;
    this.#load = load;
    this.#note = note;
  }

  /** Today's. Rejects, as `load` does, only where none could be read before: then the last good one goes on. */
  current(): Promise<Identity> {
    this.#loading ??= this.#reload().finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #reload(): Promise<Identity> {
    const found = await stat(this.#path, { bigint: true }).catch(() => undefined);
    const stamp = found && stampOf(found);
    if (this.#identity && stamp === this.#stamp) return this.#identity;
    // Before it is read: what is written meanwhile is read the next time.
    this.#stamp = stamp;
    try {
      this.#identity = await this.#load();
    } catch (error) {
      if (!this.#identity) throw error;
      this.#note(`${(error as Error).message}. The key of before stays in use`);
    }
    return this.#identity;
  }
}
