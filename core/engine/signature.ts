import { IntegrityError } from "../errors.ts";
import { verifyBytes } from "../identity/key.ts";
import { decodeControl, encodeControl, Signature, type Signed } from "../wire/control.ts";
import { FRAME } from "../wire/numbers.ts";
import type { Link } from "./link.ts";
import { unexpected } from "./told.ts";

/** Keeps what is signed here from being taken for anything else that the key signs. */
const CONTEXT = Buffer.from("shrinker recording signature v1\0");

/** Signs recordings. */
export interface RecordingSigner extends Signed {
  /** ECDSA on P-256 with SHA-256 over the message; r and s, 32 bytes each. */
  sign(message: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

function signedMessage(digest: Uint8Array): Buffer {
  return Buffer.concat([CONTEXT, digest]);
}

/** The payload of SIGNATURE. @param digest SHA-256 of all bytes of the recording before that frame */
export async function encodeSignature({ key, sign }: RecordingSigner, digest: Uint8Array): Promise<Buffer> {
  return encodeControl(Signature, { key, signature: await sign(signedMessage(digest)) });
}

/**
 * Reads the end of a recording that says it is signed, behind DONE. Throws an `IntegrityError` unless it ends in a signature
 * by whom it says, over every byte before.
 */
export async function checkSignature(link: Link, { key }: Signed): Promise<void> {
  const { peer, padded } = link.connection;
  const frame = await link.next();
  if (!frame) throw new IntegrityError(`${peer} ends before its signature: it is cut short`);
  if (frame.type !== FRAME.SIGNATURE) throw unexpected(frame);
  const found = decodeControl(Signature, frame.payload);
  const right = found.key === key && verifyBytes(key, signedMessage(link.digest()), found.signature);
  if (!right) throw new IntegrityError(`${peer} is not what ${key} has signed: it was changed since, or is a forgery`);
  if (padded) return;
  const more = await link.next();
  if (more) throw unexpected(more);
}
