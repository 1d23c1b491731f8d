import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { IntegrityError } from "../errors.ts";

/** Of so many missing contents the digests are kept. */
const MAX_DIGESTS = 1000;

/** A recording leaves out contents that are not here. */
export class MissingContentsError extends IntegrityError {
  /** SHA-256 of the index that listed them; undefined where the recording was made against none. */
  readonly index: Uint8Array | undefined;
  readonly contents: number;
  /** In hexadecimal; the first 1000 of them. */
  readonly digests: readonly string[];

  constructor(index: Uint8Array | undefined, contents: number, digests: readonly string[]) {
    const what = `${contents} contents (${contents * PAGE_SIZE} bytes)`;
    const why = index
      ? `that the index ${hex(index).slice(0, 12)} lists are not here: the store or a seed has changed since; index this site again, and make the bundle against that`
      : "are not here although they were said to be: index this site again, and send again";
    super(`${what} ${why}`);
    this.name = "MissingContentsError";
    this.index = index;
    this.contents = contents;
    this.digests = digests;
  }
}

/** Counts contents that a recording leaves out and that are not here, so that all of them can be told at its end. */
export class MissingContents {
  readonly #index: Uint8Array | undefined;
  readonly #digests: string[] = [];
  #count = 0;

  constructor(index: Uint8Array | undefined) {
    this.#index = index;
  }

  /** Takes the digests whose `found[i]` is 0. */
  note(digests: Uint8Array, found: Uint8Array): void {
    for (let i = 0; i < found.length; i++) {
      if (found[i] !== 0) continue;
      this.#count++;
      if (this.#digests.length < MAX_DIGESTS)
        this.#digests.push(hex(digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE)));
    }
  }

  get some(): boolean {
    return this.#count > 0;
  }

  error(): MissingContentsError {
    return new MissingContentsError(this.#index, this.#count, this.#digests);
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
