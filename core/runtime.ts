/** The only file that knows which runtime it is on. Everything else uses `node:` APIs that all of them have. */
import { hash } from "node:crypto";
import type { DenoQuic, QuicApi } from "./transport/quic-api.ts";

interface BunGlobal {
  readonly version: string;
  readonly CryptoHasher: { hash(algorithm: "sha256", input: Uint8Array, into: Uint8Array): void };
}

interface DenoGlobal extends Partial<DenoQuic> {
  readonly version: { readonly deno: string };
  dlopen(library: string, symbols: object): Library;
}

/** What a foreign function interface gives; a `long` comes as a bigint or, on Bun, as a number where it fits. */
interface Library {
  readonly symbols: {
    lseek(fd: number, offset: bigint, whence: number): bigint | number;
    flock(fd: number, operation: number): number;
  };
}

const bun = (globalThis as { Bun?: BunGlobal }).Bun;
const deno = (globalThis as { Deno?: DenoGlobal }).Deno;

/** `bun 1.4.5`, `deno 2.9.5` or `node 24.1.0`. */
export const runtime: string = bun
  ? `bun ${bun.version}`
  : deno
    ? `deno ${deno.version.deno}`
    : `node ${process.versions.node}`;

/** The program that runs this, and the arguments with which it runs a script of this project's as a process of its own. */
export const scriptCommand: readonly [string, ...string[]] = deno
  ? [process.execPath, "run", "-A", "--no-check"]
  : bun
    ? [process.execPath, "--no-env-file", "--config=/dev/null", "--tsconfig-override=/dev/null", "--no-install"]
    : [process.execPath];

/** Whether TLS reads its socket even while whoever consumes it has paused (Deno 2.9): a peer could fill the memory. */
export const tlsReadsAhead: boolean = deno !== undefined;

/** The QUIC of this runtime; undefined on one that has none, or where it is switched off. */
export async function loadQuic(): Promise<QuicApi | undefined> {
  if (deno) {
    const { QuicEndpoint, connectQuic } = deno;
    return QuicEndpoint && connectQuic && { deno: { QuicEndpoint, connectQuic } };
  }
  const { emitWarning } = process;
  // That it is experimental is no news to users, who didn't choose it.
  process.emitWarning = () => {};
  try {
    return { node: await import("node:quic") };
  } catch {
    return undefined;
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** Writes the SHA-256 of `input` into the 32 bytes of `into`. */
export const sha256Into: (input: Uint8Array, into: Uint8Array) => void = bun
  ? (input, into) => bun.CryptoHasher.hash("sha256", input, into)
  : (input, into) => into.set(hash("sha256", input, "buffer"));

/** Tells where a file's data lies, so that holes need not be read. */
export interface HoleMap {
  /**
   * The next bytes that are not a hole, `[start, end)`, at or after `offset`, which is below the file's size; both are
   * the size where only a hole is left. What can't be told counts as data: reading it is always right.
   */
  next(offset: number): { start: number; end: number };
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const LIBC = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];
let libc: Promise<Library["symbols"] | undefined> | undefined;

/** Of glibc or musl; undefined on another system, on Node, and on Deno without `--allow-ffi`. */
async function openLibc(): Promise<Library["symbols"] | undefined> {
  if (process.platform !== "linux") return undefined;
  let open = deno?.dlopen;
  if (bun) {
    // Not a literal: other runtimes and bundlers would look for the module.
    const module: string = "bun:ffi";
    ({ dlopen: open } = (await import(module)) as Pick<DenoGlobal, "dlopen">);
  }
  const symbols = bun
    ? { lseek: { args: ["i32", "i64", "i32"], returns: "i64" }, flock: { args: ["i32", "i32"], returns: "i32" } }
    : {
        lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
        flock: { parameters: ["i32", "i32"], result: "i32" },
      };
  for (const name of LIBC) {
    try {
      return open?.(name, symbols).symbols;
    } catch {
      // The next one.
    }
  }
  return undefined;
}

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Locks an open file for this process until it is closed, or the process has died (flock(2), which no runtime offers).
 * Returns false where another process holds it, and undefined where the runtime can't lock.
 */
export async function lockOpenFile(fd: number, exclusive: boolean): Promise<boolean | undefined> {
  libc ??= openLibc();
  const symbols = await libc;
  return symbols && symbols.flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) === 0;
}

/**
 * The holes of an open file, by lseek's `SEEK_DATA` and `SEEK_HOLE` (POSIX.1-2024), which no runtime offers; undefined
 * where the runtime can't call it, or the file system can't tell. Moves the file's position: read by offsets.
 * @param size the file's size in bytes, > 0
 */
export async function openHoleMap(fd: number, size: number): Promise<HoleMap | undefined> {
  libc ??= openLibc();
  const symbols = await libc;
  if (!symbols) return undefined;
  const seek = (offset: number, whence: number) => Number(symbols.lseek(fd, BigInt(offset), whence));
  if (seek(0, SEEK_HOLE) < 0) return undefined;
  return {
    next(offset) {
      const start = seek(offset, SEEK_DATA);
      // Errors can't be told apart without errno, but in a hole the next hole begins right here.
      if (start < 0) return { start: seek(offset, SEEK_HOLE) === offset ? size : offset, end: size };
      const end = seek(start, SEEK_HOLE);
      return { start: Math.min(start, size), end: end < 0 ? size : Math.min(end, size) };
    },
  };
}
