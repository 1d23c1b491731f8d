/** The only file that knows which runtime it is on. Everything else uses `node:` APIs that all of them have. */
import { hash } from "node:crypto";

interface BunGlobal {
  readonly version: string;
  readonly CryptoHasher: { hash(algorithm: "sha256", input: Uint8Array, into: Uint8Array): void };
}

const bun = (globalThis as { Bun?: BunGlobal }).Bun;
const deno = (globalThis as { Deno?: { version: { deno: string } } }).Deno;

/** `bun 1.4.5`, `deno 2.9.5` or `node 24.1.0`. */
export const runtime: string = bun
  ? `bun ${bun.version}`
  : deno
    ? `deno ${deno.version.deno}`
    : `node ${process.versions.node}`;

/** Writes the SHA-256 of `input` into the 32 bytes of `into`. */
export const sha256Into: (input: Uint8Array, into: Uint8Array) => void = bun
  ? (input, into) => bun.CryptoHasher.hash("sha256", input, into)
  : (input, into) => into.set(hash("sha256", input, "buffer"));
