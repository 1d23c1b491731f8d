/** The fixture of an index, and what forgers make of it. */
import { expect } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import { pack } from "msgpackr";
import { ShrinkerError } from "../../../core/errors.ts";
import { readIndexFile } from "../../../core/index/index-file.ts";
import { INDEX_META, INDEX_TEXTS } from "../../fixtures/index-file.ts";

export const FIXTURE = fileURLToPath(new URL("../../fixtures/index-v1/example.index", import.meta.url));
export const example = readFileSync(FIXTURE);
const HEADER = 16;
/** Where the example's records begin. */
export const RECORDS = HEADER + example.readUInt32LE(12) + 4;

export const META = { ...INDEX_META, count: INDEX_TEXTS.length };

/** Bytes as arrays of numbers, so that values compare alike whichever kind of array holds them. */
export function plain(meta: object): unknown {
  return Object.fromEntries(
    Object.entries(meta).map(([key, value]) => [key, value instanceof Uint8Array ? Array.from(value) : value]),
  );
}

/** The typed error that it rejects with. */
export async function failure(work: Promise<unknown>): Promise<ShrinkerError> {
  const error = await work.then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  return error;
}

/** What reading these bytes from `path` fails with: a message that names the file and says what to do, on one line. */
export async function refused(path: string, bytes: Uint8Array): Promise<ShrinkerError> {
  writeFileSync(path, bytes);
  const error = await failure(readIndexFile(path));
  expect(error.message).toContain(`"${path}"`);
  expect(error.message).toMatch(/; (copy it again, or make it again with|name one that) "shrinker index/);
  expect(error.message).not.toContain("\n");
  return error;
}

/** A file as a forger makes it: any map and records, and every checksum right. */
export function forged(map: unknown, records: Uint8Array = example.subarray(RECORDS, -32)): Buffer {
  const encoded = map instanceof Uint8Array ? map : pack(map);
  const head = Buffer.alloc(HEADER + encoded.length + 4);
  example.copy(head, 0, 0, HEADER);
  head.writeUInt32LE(encoded.length, 12);
  head.set(encoded, HEADER);
  head.writeUInt32LE(crc32(head.subarray(0, -4)), head.length - 4);
  const body = Buffer.concat([head, records]);
  return Buffer.concat([body, createHash("sha256").update(body).digest()]);
}
