import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { AgeRecipient } from "../core/age/keys.ts";
import type { RecordingSigner } from "../core/engine/signature.ts";
import { ShrinkerError } from "../core/errors.ts";
import { publicKeyWord, signMessage } from "../core/identity/p256.ts";
import { readKeyFile } from "./key-files.ts";
import type { Options } from "./options.ts";

/** Where the user's identity is unless `--identity` says otherwise. */
function defaultIdentity(): string | undefined {
  const xdg = process.env.XDG_CONFIG_HOME;
  if (xdg?.startsWith("/")) return join(xdg, "shrinker", "identity");
  const home = homedir();
  return home.startsWith("/") ? join(home, ".config", "shrinker", "identity") : undefined;
}

function readPrivateKey(pem: string, path: string): KeyObject {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") throw new Error("not on P-256");
    return key;
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
  const key = readPrivateKey(await readKeyFile(path, true), path);
  return {
    key: publicKeyWord(createPublicKey(key)),
    recipients: recipients.map(({ digest }) => digest),
    sign: (message) => signMessage(key, message),
  };
}
