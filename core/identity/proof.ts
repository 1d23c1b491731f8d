import { randomBytes } from "node:crypto";
import { ProtocolError, ShrinkerError } from "../errors.ts";
import { getU64, putU64 } from "../wire/bytes.ts";
import { MAX_SUCCESSIONS } from "./certificates.ts";
import { current, type Identity } from "./identity.ts";
import { formatPoint, POINT_BYTES, parsePoint, SIGNATURE_BYTES, signBytes, verifyBytes } from "./key.ts";
import { MAX_SUCCESSION_BYTES, readSuccession } from "./succession.ts";

/**
 * How a dialler proves who it is: its first bytes within TLS, ahead of the preface (docs/wire-format.md). TLS has proved the
 * listener's key to it, and it signs that key: what it gives to one listener is worth nothing to another.
 */

export const PROOF_VERSION = 1;
/** Bytes of a proof, at most. */
export const MAX_PROOF = 4096;
/** Bytes that say how many follow. */
export const PROOF_HEAD = 8;
/** How far the clocks of two machines may be apart. */
export const CLOCK_MS = 10 * 60_000;

const MAGIC = Buffer.from("SHKP", "latin1");
const NONCE_BYTES = 32;
/** What is signed begins with this: a signature of another sort is no proof. */
const PURPOSE = Buffer.from("shrinker dialler proof, version 1\0", "latin1");
/** Both keys, nonce, time, count. */
const FIXED = 2 * POINT_BYTES + NONCE_BYTES + 8 + 1;

/** What a proof says; its signature was right. */
export interface Proof {
  /** The dialler's key, as text. */
  readonly key: string;
  /** The keys that this one has succeeded, newest first, by certificates that are valid now. */
  readonly before: readonly string[];
  /** The listener's key that it is meant for. */
  readonly server: string;
  readonly nonce: Buffer;
  /** Milliseconds since 1970, by the dialler's clock. */
  readonly time: number;
}

/** @param server the listener's key that TLS was asked to verify */
export function makeProof(identity: Identity, server: string, now = Date.now()): Buffer {
  const successions = current(identity.successions, new Date(now));
  const rest = Buffer.alloc(FIXED);
  rest.set(parsePoint(identity.word), 0);
  rest.set(parsePoint(server), POINT_BYTES);
  rest.set(randomBytes(NONCE_BYTES), 2 * POINT_BYTES);
  putU64(rest, now, FIXED - 9);
  rest.writeUInt8(successions.length, FIXED - 1);
  const parts = successions.flatMap(({ der }) => [length16(der), der]);
  const head = Buffer.alloc(PROOF_HEAD);
  head.set(MAGIC);
  head.writeUInt16LE(PROOF_VERSION, 4);
  const body = Buffer.concat([rest, ...parts]);
  head.writeUInt16LE(body.length + SIGNATURE_BYTES, 6);
  const said = Buffer.concat([head, body]);
  return Buffer.concat([said, signBytes(identity, Buffer.concat([PURPOSE, said]))]);
}

/**
 * How many bytes follow the first 8.
 * Throws `refused` for what is no proof, or of another version, and a `ProtocolError` where it says that it is longer than any is.
 */
export function proofLength(head: Buffer): number {
  if (!head.subarray(0, 4).equals(MAGIC))
    throw new ShrinkerError("refused", "This receiver wants to know who you are: do not dial it with --insecure");
  const version = head.readUInt16LE(4);
  if (version !== PROOF_VERSION) {
    const message = `This receiver takes proofs of identity of version ${PROOF_VERSION}, not ${version}`;
    throw new ShrinkerError("refused", `${message}: use the same release at both ends`);
  }
  const length = head.readUInt16LE(6);
  if (length < FIXED + SIGNATURE_BYTES || length > MAX_PROOF - PROOF_HEAD)
    throw new ProtocolError(`A proof of identity has ${length} bytes`);
  return length;
}

/** Reads a proof in full, and verifies its signatures. Throws a `ProtocolError` for what is none. */
export function readProof(bytes: Buffer, now = Date.now()): Proof {
  const end = bytes.length - SIGNATURE_BYTES;
  if (bytes.length < PROOF_HEAD || bytes.length !== PROOF_HEAD + proofLength(bytes))
    throw new ProtocolError("A proof of identity ends too early");
  const body = bytes.subarray(PROOF_HEAD, end);
  const key = formatPoint(body.subarray(0, POINT_BYTES));
  const server = formatPoint(body.subarray(POINT_BYTES, 2 * POINT_BYTES));
  const nonce = Buffer.from(body.subarray(2 * POINT_BYTES, 2 * POINT_BYTES + NONCE_BYTES));
  const time = getU64(body, FIXED - 9);
  if (!verifyBytes(key, Buffer.concat([PURPOSE, bytes.subarray(0, end)]), bytes.subarray(end)))
    throw new ProtocolError("The signature of a proof of identity is wrong");
  return { key, server, nonce, time, before: readChain(key, body.subarray(FIXED), body.readUInt8(FIXED - 1), now) };
}

/** The keys before this one. A chain that is valid in part counts as far as it is. */
function readChain(key: string, bytes: Buffer, count: number, now: number): string[] {
  if (count > MAX_SUCCESSIONS) throw new ProtocolError(`A proof of identity has ${count} certificates`);
  const before: string[] = [];
  let valid = true;
  let to = key;
  let at = 0;
  for (let i = 0; i < count; i++) {
    const length = at + 2 <= bytes.length ? bytes.readUInt16LE(at) : 0;
    const der = bytes.subarray(at + 2, at + 2 + length);
    if (length === 0 || length > MAX_SUCCESSION_BYTES || der.length !== length)
      throw new ProtocolError("A certificate in a proof of identity is cut short");
    at += 2 + length;
    const succession = readCertificate(der);
    if (succession.to !== to) throw new ProtocolError("The certificates in a proof of identity do not lead to its key");
    to = succession.from;
    valid &&= succession.notBefore.getTime() <= now && now < succession.notAfter.getTime();
    if (valid) before.push(to);
  }
  if (at !== bytes.length) throw new ProtocolError("A proof of identity has superfluous bytes");
  return before;
}

function readCertificate(der: Uint8Array) {
  try {
    return readSuccession(der);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ProtocolError(`In a proof of identity, ${why}`, { cause: error });
  }
}

function length16(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16LE(bytes.length);
  return length;
}
