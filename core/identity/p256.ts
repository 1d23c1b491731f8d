import { createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { ShrinkerError } from "../errors.ts";

const SCHEME = "p256:";
/** SubjectPublicKeyInfo of a point of P-256, up to the compressed point (RFC 5480). */
const SPKI_HEAD = Buffer.from("3039301306072a8648ce3d020106082a8648ce3d030107032200", "hex");
const POINT = 33;

/** A public key on P-256 as one word: `p256:` and the compressed point in base64url. */
export function publicKeyWord(key: KeyObject): string {
  const { x = "", y = "" } = key.export({ format: "jwk" });
  const odd = Buffer.from(y, "base64url").at(-1)! & 1;
  return SCHEME + Buffer.concat([Buffer.of(2 + odd), Buffer.from(x, "base64url")]).toString("base64url");
}

/** Reads such a word. Throws `usage` where it is none. */
export function parsePublicKey(word: string): KeyObject {
  const point = Buffer.from(word.slice(SCHEME.length), "base64url");
  try {
    if (!word.startsWith(SCHEME) || point.length !== POINT || point.toString("base64url") !== word.slice(SCHEME.length))
      throw new Error("not a compressed point");
    return createPublicKey({ key: Buffer.concat([SPKI_HEAD, point]), format: "der", type: "spki" });
  } catch (error) {
    const message = `Cannot use "${word.slice(0, 60)}" as a public key: expected p256: and 44 characters`;
    throw new ShrinkerError("usage", message, { cause: error });
  }
}

/** ECDSA on P-256 with SHA-256: r and s, 32 bytes each. */
export function signMessage(privateKey: KeyObject, message: Uint8Array): Buffer {
  return sign("sha256", message, { key: privateKey, dsaEncoding: "ieee-p1363" });
}

/** Whether the signature is the key's, of this message. False also where the word is no key. */
export function verifySignature(word: string, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify("sha256", message, { key: parsePublicKey(word), dsaEncoding: "ieee-p1363" }, signature);
  } catch {
    return false;
  }
}
