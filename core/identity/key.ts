import { createPublicKey, ECDH, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { ShrinkerError } from "../errors.ts";

/**
 * Who somebody is: an EC key on P-256 (FIPS 186-5), which every TLS stack knows. The public half as text is one word, `p256:`
 * and the base64url of the compressed point (SEC 1, 2.3.3). People pin that word, as they do a line of SSH's known_hosts.
 */
export interface KeyPair {
  /** The public key as text: `p256:` and 44 characters. */
  readonly word: string;
  readonly privateKey: KeyObject;
}

/** Bytes of a compressed point. */
export const POINT_BYTES = 33;
/** Bytes of a signature: r and s, 32 each (IEEE P1363). */
export const SIGNATURE_BYTES = 64;

const CURVE = "prime256v1";
const WORD = /^p256:[A-Za-z0-9_-]{44}$/;
/** What stands before the compressed point in a SubjectPublicKeyInfo (RFC 5480). */
const SPKI = Buffer.from("3039301306072a8648ce3d020106082a8648ce3d030107032200", "hex");

export function generateKey(): KeyPair {
  return keyPair(generateKeyPairSync("ec", { namedCurve: CURVE }).privateKey);
}

/** The pair of a private key. Throws `input` for one that is not on P-256. */
export function keyPair(privateKey: KeyObject): KeyPair {
  return { privateKey, word: formatKey(createPublicKey(privateKey)) };
}

/** A public key as text. Throws `input` for one that is not on P-256. */
export function formatKey(publicKey: KeyObject): string {
  if (publicKey.asymmetricKeyType !== "ec" || publicKey.asymmetricKeyDetails?.namedCurve !== CURVE)
    throw new ShrinkerError(
      "input",
      "Cannot use that key: expected an EC key on P-256, as `shrinker identity` makes it",
    );
  const { x, y } = publicKey.export({ format: "jwk" });
  const [left, right] = [Buffer.from(x!, "base64url"), Buffer.from(y!, "base64url")];
  return formatPoint(Buffer.concat([Buffer.of(2 + (right.at(-1)! & 1)), left]));
}

/** @param point 33 bytes */
export function formatPoint(point: Uint8Array): string {
  return `p256:${Buffer.from(point).toString("base64url")}`;
}

/** Whether a text has the form of a public key; that it is a point of the curve is known by `parseKey`. */
export function isKeyWord(text: string): boolean {
  return WORD.test(text);
}

/** The compressed point of a public key's text. Throws `usage` where it is none, or no point of the curve. */
export function parsePoint(word: string): Buffer {
  const point = Buffer.from(word.slice(5), "base64url");
  if (isKeyWord(word) && isPoint(point)) return point;
  throw new ShrinkerError(
    "usage",
    `Cannot use "${shorten(word)}" as a key: expected p256: and 44 characters, as \`shrinker identity\` shows it`,
  );
}

/** A public key from its text. Throws `usage`. */
export function parseKey(word: string): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI, parsePoint(word)]), format: "der", type: "spki" });
}

/** ECDSA with SHA-256: 64 bytes. */
export function signBytes({ privateKey }: KeyPair, bytes: Uint8Array): Buffer {
  return sign("sha256", bytes, { key: privateKey, dsaEncoding: "ieee-p1363" });
}

/** Whether `signature` is one of these bytes by the key of that text. False also where that is no key. */
export function verifyBytes(word: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES) return false;
  try {
    return verify("sha256", bytes, { key: parseKey(word), dsaEncoding: "ieee-p1363" }, signature);
  } catch {
    return false;
  }
}

/** Also that it is the one way to write this point: an x at or above the field's prime would be another. */
function isPoint(point: Buffer): boolean {
  try {
    const full = ECDH.convertKey(point, CURVE, undefined, undefined, "uncompressed") as Buffer;
    const again = ECDH.convertKey(full, CURVE, undefined, undefined, "compressed") as Buffer;
    return again.equals(point);
  } catch {
    return false;
  }
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}
