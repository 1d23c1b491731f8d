import type { AgeIdentity } from "../core/age/keys.ts";
import { ShrinkerError } from "../core/errors.ts";
import { permits } from "../core/identity/authorized-peers.ts";
import { parsePoint } from "../core/identity/key.ts";
import type { Signed } from "../core/wire/control.ts";
import type { Options } from "./options.ts";
import { findAuthorizedPeers } from "./trust.ts";

/** Keys that bundles are taken from, with the names that they have here. */
export type TrustedSenders = ReadonlyMap<string, string | undefined>;

/** Senders that are trusted at most. */
const MAX_TRUSTED = 1024;

/**
 * Whom `--trust` names; without it, whoever may connect here for the same domain (authorized-peers). Undefined where nobody is configured, so that any
 * bundle is taken. Throws `usage` for what is no key.
 */
export async function readTrusted(options: Options, domain: string): Promise<TrustedSenders | undefined> {
  const keys = options.all("trust");
  if (keys.length > MAX_TRUSTED) throw new ShrinkerError("usage", `--trust is given more than ${MAX_TRUSTED} times`);
  const authorized = await findAuthorizedPeers(options);
  const names = new Map(authorized.map(({ key, name }) => [key, name]));
  for (const key of keys) parsePoint(key);
  if (keys.length > 0) return new Map(keys.map((key) => [key, names.get(key)]));
  if (authorized.length === 0) return undefined;
  const now = new Date();
  const valid = authorized.filter(
    ({ permissions, expires }) => permits(permissions.domains, domain) && (expires === undefined || expires > now),
  );
  return new Map(valid.map(({ key, name }) => [key, name]));
}

/** How a bundle came, as far as its signer is concerned. */
export interface Arrived {
  readonly peer: string;
  readonly encrypted: boolean;
}

/**
 * Whether a bundle may be received from who says to have signed it. Throws `refused` where it is not signed, or by somebody
 * else, and where somebody it was encrypted to has encrypted it again, to others.
 * @param mine keys that open it here
 */
export function checkSender(
  signed: Signed | undefined,
  trusted: TrustedSenders | undefined,
  mine: readonly AgeIdentity[],
  { peer, encrypted }: Arrived,
): void {
  const refused = (why: string) => new ShrinkerError("refused", `${peer} ${why}`);
  if (trusted && !signed) throw refused("is not signed, and only bundles of trusted senders are received here");
  if (!signed) return;
  if (trusted && !trusted.has(signed.key))
    throw refused(`is signed by ${signed.key}, who is not trusted here (--trust, authorized-peers)`);
  const { recipients } = signed;
  const toMe = recipients.some((recipient) => mine.some((key) => key.recipient.digest.equals(recipient)));
  if (encrypted && recipients.length > 0 && !toMe)
    throw refused("was encrypted to others by who has signed it, and encrypted again since: ask where it comes from");
}

/** What is said of who has signed a bundle: for `--json`, and for people. */
export interface SignerDescription {
  readonly event: object;
  readonly line: string;
}

/** Describes a signer once the signature is proved. */
export function describeSigner(signed: Signed | undefined, trusted: TrustedSenders | undefined): SignerDescription {
  if (!signed) {
    const line = "not signed: whoever could write the bundle can have made it";
    return { event: { signed: null }, line };
  }
  const { key } = signed;
  const name = trusted?.get(key);
  const stranger = trusted ? "" : "; --trust with a key that you know receives nobody else's bundles";
  return {
    event: { signed: { key, ...(name && { name }) } },
    line: `signed by ${key}${name ? ` (${name})` : ""}${stranger}`,
  };
}
