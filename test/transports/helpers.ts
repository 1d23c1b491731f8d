import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Address,
  type Connection,
  type DialOptions,
  type Listener,
  type ListenOptions,
  parseAddress,
  type Transport,
} from "../../core/transport/transport.ts";
import { transports } from "../../transports/registry.ts";

/** The start of a shell command that runs one of these programs by the runtime that the tests run on. */
export function program(name: string): string {
  const flags = "Deno" in globalThis ? "run -A --no-check" : "";
  return `exec '${process.execPath}' ${flags} '${fileURLToPath(new URL(name, import.meta.url))}'`;
}

/** A signal that is never given. */
export const { signal: never } = new AbortController();

export function at(text: string): { address: Address; transport: Transport } {
  const address = parseAddress(text, transports);
  return { address, transport: transports.get(address.scheme)! };
}

/** Dials; without authentication unless it is said whom to expect. */
export async function dial(text: string, options: Partial<DialOptions> = {}): Promise<Connection> {
  const { address, transport } = at(text);
  return transport.dial(address, { signal: never, insecure: options.security === undefined, ...options });
}

/** Listens; without authentication unless it is said what to show. */
export async function listen(text: string, options: Partial<ListenOptions> = {}): Promise<Listener> {
  const { address, transport } = at(text);
  return transport.listen(address, { signal: never, insecure: options.security === undefined, ...options });
}

export async function readAll(input: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of input) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** What a promise rejects with; fails where it doesn't. */
export async function errorOf(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  const nothing = Symbol();
  const result = await promise.then(
    () => nothing,
    (error) => error,
  );
  if (result === nothing) throw new Error("expected a rejection");
  return result;
}

/** Bytes that no two offsets share, for tests of order: a keyed stream of SHA-256 blocks. */
export function bytesOf(seed: string, length: number): Buffer {
  const block = createHash("sha256").update(seed).digest();
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4)
    bytes.writeUInt32LE((block.readUInt32LE(at & 28) ^ at) >>> 0, Math.min(at, length - 4));
  return bytes;
}

export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** A folder for one test; gone afterwards. */
export async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "shrinker-"));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Waits until a condition holds, at most `ms`. */
export async function until(condition: () => boolean, ms = 5000): Promise<void> {
  for (const start = Date.now(); !condition(); ) {
    if (Date.now() - start > ms) throw new Error("it did not happen in time");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
