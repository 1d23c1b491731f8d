/** Uses of a store that tests have in common. */
import type { Store } from "../../../core/store/store.ts";
import { contents, PAGE } from "./contents.ts";

export async function put(store: Store, numbers: readonly number[]): Promise<void> {
  const { digests, pages, count } = contents(numbers);
  await store.put(digests, pages, count);
}

/** Puts contents, each group flushed, and closes. */
export async function putAll(open: Promise<Store>, groups: readonly (readonly number[])[]): Promise<void> {
  const store = await open;
  for (const numbers of groups) {
    await put(store, numbers);
    await store.flush();
  }
  await store.close();
}

/** Which of these contents a store gives. Throws where one is not what its digest says, or was written though it is not found. */
export async function held(store: Store, numbers: readonly number[]): Promise<number[]> {
  const { digests, pages: right, count } = contents(numbers);
  const found = new Uint8Array(count);
  const pages = new Uint8Array(count * PAGE);
  await store.fetch(digests, count, found, pages);
  return numbers.filter((number, i) => {
    const at = i * PAGE;
    const page = pages.subarray(at, at + PAGE);
    const same =
      found[i] === 0 ? page.every((byte) => byte === 0) : Buffer.compare(page, right.subarray(at, at + PAGE)) === 0;
    if (!same) throw new Error(`${number} is ${found[i] === 0 ? "written, and not said to be found" : "wrong"}`);
    return found[i] === 1;
  });
}

export async function heldBy(open: Promise<Store>, numbers: readonly number[]): Promise<number[]> {
  const store = await open;
  try {
    return await held(store, numbers);
  } finally {
    await store.close();
  }
}
