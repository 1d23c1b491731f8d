import { createHash } from "node:crypto";
import { ShrinkerError } from "../errors.ts";

/** Loaded when something is encrypted: it takes longer than many a run of the command. */
const library = () => import("age-encryption");

/** Recipients of one file, and secret keys of one reader. Each secret key is tried on each recipient's part of the header. */
export const MAX_RECIPIENTS = 64;
export const MAX_IDENTITIES = 16;
/** What of a recipient a message quotes. */
const QUOTED = 24;

/** A public key of age's, to which a bundle is encrypted. */
export interface AgeRecipient {
  /** `age1...`, as `age-keygen` prints it. */
  readonly text: string;
  /** SHA-256 of the text: names the recipient in what is signed, and fits there whatever kind of key it is. */
  readonly digest: Buffer;
}

/** A secret key of age's, with the recipient that it belongs to. */
export interface AgeIdentity {
  /** `AGE-SECRET-KEY-1...`. Must not be printed. */
  readonly secret: string;
  readonly recipient: AgeRecipient;
}

function named(text: string): AgeRecipient {
  return { text, digest: createHash("sha256").update(text).digest() };
}

/** Checks a recipient. Rejects with `usage`, without quoting a secret key that was given by mistake. */
export async function parseRecipient(text: string): Promise<AgeRecipient> {
  if (/^AGE-SECRET-KEY-/i.test(text))
    throw new ShrinkerError("usage", "A secret key is no recipient: give its public key, which begins with age1");
  const { Encrypter } = await library();
  try {
    new Encrypter().addRecipient(text);
  } catch (error) {
    const message = `Cannot encrypt to "${text.slice(0, QUOTED)}": expected a public key of age's, age1..., as age-keygen prints it`;
    throw new ShrinkerError("usage", message, { cause: error });
  }
  return named(text);
}

/** The lines of a file that are neither empty nor a comment (`#`). */
export function keyLines(text: string): string[] {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "" && !line.startsWith("#"));
}

/** Reads what `age-keygen` writes: a secret key a line. Rejects with `input`, which names the line and quotes nothing of it. */
export async function parseIdentities(text: string, file: string): Promise<AgeIdentity[]> {
  const secrets = keyLines(text);
  const wrong = (why: string) => new ShrinkerError("input", `Cannot use the keys in "${file}": ${why}`);
  if (secrets.length === 0) throw wrong("there is none; age-keygen -o FILE makes one");
  if (secrets.length > MAX_IDENTITIES) throw wrong(`it has ${secrets.length}, and ${MAX_IDENTITIES} are tried at most`);
  const { Decrypter, identityToRecipient } = await library();
  return Promise.all(
    secrets.map(async (secret, i) => {
      try {
        new Decrypter().addIdentity(secret);
        return { secret, recipient: named(await identityToRecipient(secret)) };
      } catch {
        throw wrong(`key ${i + 1} is not an AGE-SECRET-KEY-1..., as age-keygen writes it`);
      }
    }),
  );
}
