import type { AgeRecipient } from "../core/age/keys.ts";
import type { RecordingSigner } from "../core/engine/signature.ts";
import { signBytes } from "../core/identity/key.ts";
import type { Options } from "./options.ts";
import { findIdentity, openIdentity } from "./trust.ts";

/**
 * Who signs a bundle: the identity that `--identity` names, or the user's own, where there is one; undefined with `--no-sign`.
 * @param recipients to whom the bundle is encrypted
 */
export async function readSigner(
  options: Options,
  recipients: readonly AgeRecipient[],
): Promise<RecordingSigner | undefined> {
  if (options.flag("no-sign")) return undefined;
  const identity = await (options.given("identity") ? openIdentity(options) : findIdentity(options));
  if (!identity) return undefined;
  return {
    key: identity.word,
    recipients: recipients.map(({ digest }) => digest),
    sign: (message) => signBytes(identity, message),
  };
}
