import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileError } from "../../errors.ts";

/** The sockets at which QEMU waits for a guest's stream: the first, then one for each recovery of a post-copy. In a folder of their own. */
export class GuestSockets {
  readonly #parent: string;
  #folder: string | undefined;
  #recoveries = 0;

  /** @param parent a folder of this user's, whose path is short */
  constructor(parent: string) {
    this.#parent = parent;
  }

  /** Makes their folder, where there is none. */
  async make(): Promise<void> {
    try {
      this.#folder ??= await mkdtemp(join(this.#parent, "in-"));
    } catch (error) {
      throw fileError("Cannot make a folder in", this.#parent, error);
    }
  }

  /** Takes another one from now on, as QEMU does. */
  async next(): Promise<string> {
    await this.make();
    this.#recoveries++;
    return this.address!;
  }

  /** Whether it is not the first one any more. */
  get recovers(): boolean {
    return this.#recoveries > 0;
  }

  /** `unix:PATH` of the last one; undefined before there is a folder. */
  get address(): string | undefined {
    if (this.#folder === undefined) return undefined;
    return `unix:${join(this.#folder, this.recovers ? `in-${this.#recoveries}` : "in")}`;
  }

  /** Never rejects. */
  async remove(): Promise<void> {
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true }).catch(() => {});
  }
}
