import { createPrivateKey } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { fileError, isMissing, ShrinkerError } from "../errors.ts";
import { writeWhole } from "../files/whole.ts";
import { certifySuccessor, MAX_SUCCESSIONS, pem } from "./certificates.ts";
import { generateKey, type KeyPair, keyPair } from "./key.ts";
import { readSuccession, type Succession } from "./succession.ts";

/** A key with those that it succeeds: what the identity file holds. */
export interface Identity extends KeyPair {
  /** Cross certificates, newest first: each says that its issuer's key was followed by the one of the entry before. */
  readonly successions: readonly Succession[];
}

/** Of the identity file. A private key, eight cross certificates and age's armour take far less. */
const MAX_FILE = 64 * 1024;
const BLOCK = /-----BEGIN ([A-Z ]+)-----[A-Za-z0-9+/=\s]+-----END \1-----/g;
const ENCRYPTED = /^-----BEGIN AGE ENCRYPTED FILE-----/;
/** About a second, and 256 MiB. */
const WORK_FACTOR = 18;
/** What others may do with a file: nothing, with one that has a private key. */
const OTHERS = 0o077;

export function newIdentity(): Identity {
  return { ...generateKey(), successions: [] };
}

/** A new key, which the old one certifies for 90 days, as it does those that it has succeeded itself. */
export function rotate(old: Identity, now = new Date()): Identity {
  const young = generateKey();
  const succession = readSuccession(certifySuccessor(old, young.word, now));
  const successions = [succession, ...current(old.successions, now)].slice(0, MAX_SUCCESSIONS);
  return { ...young, successions };
}

/** Those by which a peer may still get from a key of before to today's: up to the first that has expired. */
export function current(successions: readonly Succession[], now = new Date()): readonly Succession[] {
  const stale = successions.findIndex(({ notAfter }) => notAfter <= now);
  return stale < 0 ? successions : successions.slice(0, stale);
}

/** The words by which peers may know an identity: today's key, then those of before. */
export function ownWords({ word, successions }: Identity, now = new Date()): readonly string[] {
  return [word, ...current(successions, now).map(({ from }) => from)];
}

/**
 * Reads an identity file.
 * @param passphrase asked for where the file is encrypted
 * @returns undefined where there is no such file
 * Throws `refused` for a file that others can read, and `input` for one that holds no identity.
 */
export async function loadIdentity(path: string, passphrase: () => Promise<string>): Promise<Identity | undefined> {
  const text = await readPrivate(path);
  if (text === undefined) return undefined;
  return parseIdentity(ENCRYPTED.test(text) ? await decrypt(path, text, await passphrase()) : text, path);
}

/**
 * Writes an identity file, mode 0600, in a folder that is made where it is missing.
 * @param passphrase encrypts it; undefined leaves it plain
 * @param workFactor binary logarithm of scrypt's N, which makes guesses of a passphrase expensive
 */
export async function saveIdentity(
  path: string,
  identity: Identity,
  passphrase: string | undefined,
  workFactor = WORK_FACTOR,
): Promise<void> {
  const key = identity.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const plain = key + identity.successions.map(({ der }) => pem(der)).join("");
  const text = passphrase === undefined ? plain : await encrypt(plain, passphrase, workFactor);
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((error) => {
    throw fileError("Cannot create", folder, error);
  });
  await writeWhole(path, [Buffer.from(text)]);
}

/** @param path for messages */
export function parseIdentity(text: string, path: string): Identity {
  const blocks = [...text.matchAll(BLOCK)];
  const [key, ...certificates] = blocks;
  try {
    if (key?.[1] !== "PRIVATE KEY" || certificates.some((block) => block[1] !== "CERTIFICATE"))
      throw new Error("expected a private key, and certificates of successions");
    if (certificates.length > MAX_SUCCESSIONS) throw new Error(`more than ${MAX_SUCCESSIONS} successions`);
    const pair = keyPair(createPrivateKey(key[0]));
    const successions = certificates.map(([block]) => readSuccession(derOf(block)));
    let to = pair.word;
    for (const succession of successions) {
      if (succession.to !== to) throw new Error("its successions do not lead to its key");
      to = succession.from;
    }
    return { ...pair, successions };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ShrinkerError("input", `Cannot use "${path}" as an identity: ${why}`, { cause: error });
  }
}

function derOf(block: string): Buffer {
  return Buffer.from(block.replace(/-----[A-Z ]+-----/g, ""), "base64");
}

/** A file that only its owner may read. The descriptor is asked, not the name: that could change in between. */
async function readPrivate(path: string): Promise<string | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw fileError("Cannot read the identity", path, error);
  }
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new ShrinkerError("input", `Cannot use "${path}" as an identity: it is no file`);
    if ((stat.mode & OTHERS) !== 0)
      throw new ShrinkerError(
        "refused",
        `Others may use the private key "${path}": change that by chmod 600 "${path}"`,
      );
    if (stat.size > MAX_FILE) throw new ShrinkerError("input", `Cannot use "${path}" as an identity: it is too big`);
    const bytes = Buffer.alloc(MAX_FILE);
    const { bytesRead } = await handle.read(bytes, 0, MAX_FILE, 0);
    return bytes.toString("latin1", 0, bytesRead);
  } catch (error) {
    throw fileError("Cannot read the identity", path, error);
  } finally {
    await handle.close();
  }
}

/** age's passphrase encryption (https://age-encryption.org/v1), in its text form. */
async function encrypt(text: string, passphrase: string, workFactor: number): Promise<string> {
  const { armor, Encrypter } = await import("age-encryption");
  const encrypter = new Encrypter();
  encrypter.setPassphrase(passphrase);
  encrypter.setScryptWorkFactor(workFactor);
  return armor.encode(await encrypter.encrypt(text));
}

async function decrypt(path: string, text: string, passphrase: string): Promise<string> {
  try {
    const { armor, Decrypter } = await import("age-encryption");
    const decrypter = new Decrypter();
    decrypter.addPassphrase(passphrase);
    return await decrypter.decrypt(armor.decode(text), "text");
  } catch (error) {
    throw new ShrinkerError("refused", `Cannot decrypt "${path}": check the passphrase`, { cause: error });
  }
}
