import { X509Certificate } from "node:crypto";
import { formatKey, isKeyWord, parseKey } from "./key.ts";

/** What an old key has certified: that another has taken its place. */
export interface Succession {
  readonly der: Buffer;
  /** The old key, as text. */
  readonly from: string;
  /** The new one. */
  readonly to: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** Bytes of one, at most; they have about 416. */
export const MAX_SUCCESSION_BYTES = 1024;

/**
 * Reads a cross certificate (DER), and verifies that the key in its issuer's name has signed it. When it is valid is for the
 * caller to look at. Throws an `Error` that says what is wrong.
 */
export function readSuccession(der: Uint8Array): Succession {
  if (der.length > MAX_SUCCESSION_BYTES) throw new Error("a certificate is too long");
  const certificate = new X509Certificate(der);
  // What follows it is no part of what was signed.
  if (Buffer.compare(certificate.raw, der) !== 0) throw new Error("a certificate has superfluous bytes");
  const from = wordOf(certificate.issuer);
  const to = wordOf(certificate.subject);
  if (!certificate.ca || formatKey(certificate.publicKey) !== to)
    throw new Error("a certificate is not about the key that it names");
  if (!certificate.verify(parseKey(from))) throw new Error("a certificate's signature is wrong");
  const notBefore = new Date(certificate.validFrom);
  const notAfter = new Date(certificate.validTo);
  if (!(notBefore < notAfter)) throw new Error("a certificate is never valid");
  return { der: Buffer.from(der), from, to, notBefore, notAfter };
}

/** Of a name that is `CN=` and a key's word, and nothing else. */
function wordOf(name: string): string {
  const word = name.startsWith("CN=") ? name.slice(3) : "";
  if (!isKeyWord(word)) throw new Error("a certificate names no key");
  return word;
}
