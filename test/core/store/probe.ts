/** What tests ask stores, and do to them. */
import { expect } from "bun:test";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { ShrinkerError } from "../../../core/errors.ts";
import { ContentSet } from "../../../core/site/content-set.ts";
import { createHold } from "../../../core/store/holds.ts";
import { readIdentity } from "../../../core/store/layout.ts";
import { scanPack } from "../../../core/store/pack.ts";
import { Store } from "../../../core/store/store.ts";
import { DOMAIN, page, type TestStore } from "./stores.ts";

export const digest = (number: number): Buffer => createHash("sha256").update(page(number)).digest();

/** What was rejected with, which has to be one line. */
export async function refusal(work: Promise<unknown>): Promise<ShrinkerError> {
  const error = await work.then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  expect(error.message).not.toContain("\n");
  return error;
}

/** Flips a bit of a byte. */
export const flip = (at: number) => (bytes: Buffer) => {
  bytes[at]! ^= 1 << (at % 8);
  return bytes;
};

/** Which of these pages a store can give. */
export async function held({ dir }: TestStore, numbers: readonly number[]): Promise<number[]> {
  const reader = await Store.open(dir, { domain: DOMAIN });
  try {
    const found = new Uint8Array(numbers.length);
    const digests = new Uint8Array(Buffer.concat(numbers.map(digest)));
    await reader.fetch(digests, numbers.length, found, Buffer.alloc(numbers.length * 4096));
    return numbers.filter((_, i) => found[i] === 1);
  } finally {
    await reader.close();
  }
}

/** All groups that can be scanned. */
export async function groupsOf(store: TestStore) {
  const found: { pack: number; offset: number; count: number; end: number }[] = [];
  for (const pack of await store.packs()) {
    const read = { end: 0, size: 0 };
    for await (const { offset, header } of scanPack(await store.pack(pack), 0, read)) {
      if (found.at(-1)?.pack === pack) found.at(-1)!.end = offset;
      found.push({ pack, offset, count: header.count, end: 0 });
    }
    if (found.at(-1)?.pack === pack) found.at(-1)!.end = read.end;
  }
  return found;
}

/** Every file of a store, by its path. */
export function filesOf({ dir }: TestStore): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of fs.readdirSync(dir, { recursive: true }) as string[]) {
    const path = join(dir, name);
    if (fs.statSync(path).isFile()) found[name] = createHash("sha256").update(fs.readFileSync(path)).digest("hex");
  }
  return found;
}

export async function generationOf(store: TestStore): Promise<string> {
  return (await readIdentity(await store.layout())).generation.toString("hex");
}

/** Pins pages until a time. */
export async function hold(store: TestStore, name: string, numbers: readonly number[], expires: number): Promise<void> {
  const set = new ContentSet();
  for (const number of numbers) set.add(digest(number), 0);
  await createHold(await store.layout(), { name, created: 0, expires, table: set.table() });
}
