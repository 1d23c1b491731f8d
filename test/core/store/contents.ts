/** Contents by number, with their digests, as a store takes them; and a folder for it. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { noise, text } from "../engine/contents.ts";

export const PAGE = 4096;
export const DIGEST = 32;
/** Of the stores that are made here. */
export const DOMAIN = "test";

const made = new Map<number, { page: Buffer; digest: Buffer }>();

/** Of even numbers text, of odd ones noise; alike for the same number. */
export function content(number: number): { page: Buffer; digest: Buffer } {
  let found = made.get(number);
  if (!found) {
    const page = number % 2 === 0 ? text(number) : noise(number);
    found = { page, digest: createHash("sha256").update(page).digest() };
    made.set(number, found);
  }
  return found;
}

/** In memory of their own, aligned as the store asks for it. */
export interface Contents {
  readonly count: number;
  readonly digests: Uint8Array<ArrayBuffer>;
  readonly pages: Uint8Array<ArrayBuffer>;
}

export function contents(numbers: readonly number[]): Contents {
  const count = numbers.length;
  const digests = new Uint8Array(count * DIGEST);
  const pages = new Uint8Array(count * PAGE);
  for (const [i, number] of numbers.entries()) {
    digests.set(content(number).digest, i * DIGEST);
    pages.set(content(number).page, i * PAGE);
  }
  return { count, digests, pages };
}

export function range(from: number, count: number, step = 1): number[] {
  return Array.from({ length: count }, (_, i) => from + i * step);
}

export interface TempFolder extends Disposable {
  readonly path: string;
}

export function tempFolder(): TempFolder {
  const path = mkdtempSync(join(tmpdir(), "shrinker-store-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** What a promise rejects with. */
export async function failure(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("it did not fail");
}

/** A copy of which one byte is another. */
export function flipped(bytes: Uint8Array, at: number, mask = 0x10): Buffer {
  const copy = Buffer.from(bytes);
  copy[at]! ^= mask;
  return copy;
}
