import { statSync } from "node:fs";
import { open } from "node:fs/promises";
import {
  type AgeIdentity,
  type AgeRecipient,
  keyLines,
  MAX_RECIPIENTS,
  parseIdentities,
  parseRecipient,
} from "../core/age/keys.ts";
import { fileError, ShrinkerError } from "../core/errors.ts";
import type { Address } from "../core/transport/transport.ts";
import type { Options } from "./options.ts";

/** Enough for 64 post-quantum recipients, and comments. */
const MAX_KEY_FILE = 256 << 10;
const OTHERS = 0o077;

/** Reads a file of keys, which may be a pipe. Rejects with `input` where it can't be read, or is too long for one. */
async function readKeyFile(path: string, secret: boolean): Promise<string> {
  const bytes = Buffer.alloc(MAX_KEY_FILE + 1);
  let length = 0;
  try {
    await using file = await open(path, "r");
    const stats = await file.stat();
    if (secret && stats.isFile() && stats.mode & OTHERS) {
      const mode = (stats.mode & 0o777).toString(8);
      throw new ShrinkerError("input", `Others may read the secret key in "${path}" (mode ${mode}): chmod 600 it`);
    }
    while (length < bytes.length) {
      const { bytesRead } = await file.read(bytes, length, bytes.length - length, null);
      if (bytesRead === 0) return bytes.toString("utf8", 0, length);
      length += bytesRead;
    }
  } catch (error) {
    throw fileError("Cannot read", path, error);
  } finally {
    if (secret) bytes.fill(0);
  }
  throw new ShrinkerError("input", `"${path}" is no file of keys: it has more than ${MAX_KEY_FILE} bytes`);
}

/** To whom `--encrypt-to` encrypts a bundle: recipients, or `@FILE` of them, a line each. Empty where it is not given. */
export async function readRecipients(options: Options, to: Address): Promise<AgeRecipient[]> {
  const given = options.all("encrypt-to");
  if (given.length === 0) return [];
  if (to.scheme !== "file") {
    const message = "--encrypt-to is for bundles: a link is encrypted by its transport";
    throw new ShrinkerError("usage", message);
  }
  if (statSync(to.rest, { throwIfNoEntry: false })?.isBlockDevice()) {
    const message = `An encrypted bundle ends where its file ends, and "${to.rest}" is a device: put a file system there`;
    throw new ShrinkerError("usage", message);
  }
  const recipients: AgeRecipient[] = [];
  for (const text of given) {
    const lines = text.startsWith("@") ? keyLines(await readKeyFile(text.slice(1), false)) : [text];
    if (lines.length === 0) throw new ShrinkerError("usage", `"${text.slice(1)}" names no recipient`);
    if (recipients.length + lines.length > MAX_RECIPIENTS)
      throw new ShrinkerError("usage", `Too many recipients: a bundle is encrypted to ${MAX_RECIPIENTS} at most`);
    recipients.push(...(await Promise.all(lines.map(parseRecipient))));
  }
  return recipients;
}

/** The keys of `--age-identity FILE`; none where it is not given. */
export async function readAgeIdentities(options: Options): Promise<AgeIdentity[]> {
  const path = options.text("age-identity");
  return path === undefined ? [] : parseIdentities(await readKeyFile(path, true), path);
}
