import { createPrivateKey } from "node:crypto";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { AgeRecipient } from "../core/age/keys.ts";
import type { RecordingSigner } from "../core/engine/signature.ts";
import { ShrinkerError } from "../core/errors.ts";
import { type KeyPair, keyPair, signBytes } from "../core/identity/key.ts";
import { readKeyFile } from "./key-files.ts";
import type { Options } from "./options.ts";

/** Where the user's identity is unless `--identity` says otherwise. */
function defaultIdentity(): string | undefined {
  const xdg = process.env.XDG_CONFIG_HOME;
  if (xdg?.startsWith("/")) return join(xdg, "shrinker", "identity");
  const home = homedir();
  return home.startsWith("/") ? join(home, ".config", "shrinker", "identity") : undefined;
}

function readPrivateKey(pem: string, path: string): KeyPair {
  try {
    return keyPair(createPrivateKey(pem));
  } catch (error) {
    const message = `Cannot sign with "${path}": it is no private key on P-256 in PEM; --no-sign leaves the bundle unsigned`;
    throw new ShrinkerError("input", message, { cause: error });
  }
}

/**
 * Who signs a bundle: the identity that `--identity` names, or the user's own, where there is one; undefined with `--no-sign`.
 * @param recipients to whom the bundle is encrypted
 */
export async function readSigner(
  options: Options,
  recipients: readonly AgeRecipient[],
): Promise<RecordingSigner | undefined> {
  if (options.flag("no-sign")) return undefined;
  const given = options.text("identity");
  const path = given ?? defaultIdentity();
  if (path === undefined || (given === undefined && !existsSync(path))) return undefined;
  const pair = readPrivateKey(await readKeyFile(path, true), path);
  return {
    key: pair.word,
    recipients: recipients.map(({ digest }) => digest),
    sign: (message) => signBytes(pair, message),
  };
}
