import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { AsnConvert, OctetString } from "@peculiar/asn1-schema";
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_subjectAltName,
  id_kp_serverAuth,
  KeyUsage,
  KeyUsageFlags,
  Name,
  RelativeDistinguishedName,
  SubjectAlternativeName,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from "@peculiar/asn1-x509";
import { type Credentials, SERVER_NAME } from "../transport/security.ts";
import { type KeyPair, parseKey } from "./key.ts";

/** Successions that lead from a key of before to the one of today, at most: what Deno's TLS follows (rustls-webpki). */
export const MAX_SUCCESSIONS = 6;

const DAY_MS = 86_400_000;
const LEAF_DAYS = 7;
const SUCCESSION_DAYS = 90;
const COMMON_NAME = "2.5.4.3";
const ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";
/** A clock that is behind must not find that a certificate begins tomorrow. */
const EARLY_MS = DAY_MS;
/** An anchor has no time of its own: it stands for a key, which is pinned or not. */
const ALWAYS = [new Date("2000-01-01T00:00:00Z"), new Date("2049-12-31T23:59:59Z")] as const;
/** ECDSA's r and s, both 1: a signature of nobody's. */
const NO_SIGNATURE = Buffer.from("3006020101020101", "hex");

interface Subject {
  readonly issuer: string;
  readonly subject: string;
  readonly publicKey: KeyObject;
  readonly serial: Uint8Array;
  readonly validity: readonly [Date, Date];
  readonly extensions: readonly Extension[];
}

/**
 * The trust anchor of a public key, as PEM, made from nothing but the key, so that a key is all that users have to pin. Only
 * its name and key matter: an anchor's own signature is checked by nobody (RFC 5280, 6.1), and this one is none.
 */
export function synthesizeAnchor(word: string): string {
  const extensions = authority(MAX_SUCCESSIONS);
  const names = { issuer: word, subject: word, publicKey: parseKey(word), serial: Buffer.of(1) };
  return pem(assemble(describe({ ...names, validity: ALWAYS, extensions }), NO_SIGNATURE));
}

/**
 * A certificate for a listener, with a new key that exists in memory only, by the identity's key.
 * @param successions DER, newest first, which follow it in the chain
 */
export function issueLeaf(identity: KeyPair, successions: readonly Uint8Array[] = [], now = new Date()): Credentials {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const expires = later(now, LEAF_DAYS * DAY_MS);
  const leaf = certify(identity, {
    subject: SERVER_NAME,
    publicKey: createPublicKey(privateKey),
    validity: [later(now, -EARLY_MS), expires],
    extensions: [
      extension(id_ce_basicConstraints, true, new BasicConstraints({ cA: false })),
      extension(id_ce_keyUsage, true, new KeyUsage(KeyUsageFlags.digitalSignature)),
      extension(id_ce_extKeyUsage, false, new ExtendedKeyUsage([id_kp_serverAuth])),
      extension(id_ce_subjectAltName, false, new SubjectAlternativeName([new GeneralName({ dNSName: SERVER_NAME })])),
    ],
  });
  return {
    certificates: [leaf, ...successions].map(pem).join(""),
    privateKey: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    expires,
  };
}

/**
 * A cross certificate (DER): the old key says that the new one has taken its place.
 * @param successor the new public key, as text
 */
export function certifySuccessor(old: KeyPair, successor: string, now = new Date()): Buffer {
  return certify(old, {
    subject: successor,
    publicKey: parseKey(successor),
    validity: [later(now, -EARLY_MS), later(now, SUCCESSION_DAYS * DAY_MS)],
    extensions: authority(MAX_SUCCESSIONS),
  });
}

/** DER as PEM. */
export function pem(der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString("base64")
    .replace(/.{64}(?!$)/g, "$&\n");
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

function certify(by: KeyPair, what: Omit<Subject, "issuer" | "serial">): Buffer {
  const tbs = describe({ ...what, issuer: by.word, serial: positive(randomBytes(16)) });
  return assemble(tbs, sign("sha256", Buffer.from(AsnConvert.serialize(tbs)), by.privateKey));
}

/** X.509 version 3 (RFC 5280, 4.1). */
function describe({ issuer, subject, publicKey, serial, validity, extensions }: Subject): TBSCertificate {
  const [notBefore, notAfter] = validity;
  return new TBSCertificate({
    version: Version.v3,
    serialNumber: bytes(serial),
    signature: new AlgorithmIdentifier({ algorithm: ECDSA_WITH_SHA256 }),
    issuer: named(issuer),
    validity: new Validity({ notBefore, notAfter }),
    subject: named(subject),
    subjectPublicKeyInfo: AsnConvert.parse(publicKey.export({ type: "spki", format: "der" }), SubjectPublicKeyInfo),
    extensions: new Extensions([...extensions]),
  });
}

function assemble(tbsCertificate: TBSCertificate, signature: Uint8Array): Buffer {
  const signatureAlgorithm = new AlgorithmIdentifier({ algorithm: ECDSA_WITH_SHA256 });
  const certificate = new Certificate({ tbsCertificate, signatureAlgorithm, signatureValue: bytes(signature) });
  return Buffer.from(AsnConvert.serialize(certificate));
}

function authority(pathLenConstraint: number): Extension[] {
  return [
    extension(id_ce_basicConstraints, true, new BasicConstraints({ cA: true, pathLenConstraint })),
    extension(id_ce_keyUsage, true, new KeyUsage(KeyUsageFlags.keyCertSign)),
  ];
}

function extension(extnID: string, critical: boolean, value: object): Extension {
  return new Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) });
}

function named(text: string): Name {
  const value = new AttributeValue({ utf8String: text });
  return new Name([new RelativeDistinguishedName([new AttributeTypeAndValue({ type: COMMON_NAME, value })])]);
}

/** A serial number's bytes: its first bit is its sign, and no byte is superfluous. */
function positive(number: Uint8Array): Uint8Array {
  number[0] = (number[0]! & 0x3f) | 0x40;
  return number;
}

function bytes(view: Uint8Array): ArrayBuffer {
  return new Uint8Array(view).buffer;
}

function later(date: Date, ms: number): Date {
  // Certificates know seconds.
  return new Date(Math.floor((date.getTime() + ms) / 1000) * 1000);
}
