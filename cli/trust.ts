import { readFile, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileError, ShrinkerError } from "../core/errors.ts";
import type { AuthorizedPeer } from "../core/identity/authorized-peers.ts";
import { type Identity, loadIdentity } from "../core/identity/identity.ts";
import { IdentityFile } from "../core/identity/identity-file.ts";
import { parsePoint } from "../core/identity/key.ts";
import { authorityOf } from "../core/identity/known-peers.ts";
import { AuthorizedPeers, loadKnownPeers } from "../core/identity/peer-files.ts";
import type { Transport } from "../core/transport/transport.ts";
import { secureTransport } from "../transports/secure.ts";
import type { Invocation } from "./command.ts";
import type { Options } from "./options.ts";

const MAX_PASSPHRASE = 1024;

type KeyOption = "identity" | "known-peers" | "authorized-peers";

/** Where keys and trust are kept; undefined for a user without a home, where the option doesn't say. */
function configured(options: Options, name: KeyOption): string | undefined {
  const given = options.text(name);
  if (given !== undefined) return given;
  const xdg = process.env.XDG_CONFIG_HOME;
  if (xdg?.startsWith("/")) return join(xdg, "shrinker", name);
  const home = homedir();
  return home.startsWith("/") ? join(home, ".config", "shrinker", name) : undefined;
}

/** As `configured`. Throws `usage` where there is no such place. */
function needed(options: Options, name: KeyOption): string {
  const path = configured(options, name);
  if (path !== undefined) return path;
  throw new ShrinkerError("usage", `Where is it? This user has no home: give --${name} FILE`);
}

export const identityPath = (options: Options) => needed(options, "identity");
export const knownPeersPath = (options: Options) => needed(options, "known-peers");
export const authorizedPeersPath = (options: Options) => needed(options, "authorized-peers");

/** Who may connect here; nobody where nothing says so. */
export async function findAuthorizedPeers(options: Options): Promise<readonly AuthorizedPeer[]> {
  const path = configured(options, "authorized-peers");
  return path === undefined ? [] : [...(await new AuthorizedPeers(path).current()).values()];
}

/** What `SHRINKER_PASSPHRASE` or `--passphrase-file` says; undefined where neither does. */
export async function readPassphrase(options: Options): Promise<string | undefined> {
  const path = options.text("passphrase-file");
  const text = path === undefined ? process.env.SHRINKER_PASSPHRASE || undefined : await readPassphraseFile(path);
  if (text === undefined || (text !== "" && text.length <= MAX_PASSPHRASE)) return text;
  throw new ShrinkerError("usage", `Cannot use that passphrase: expected 1 to ${MAX_PASSPHRASE} characters`);
}

async function readPassphraseFile(path: string): Promise<string> {
  try {
    // A pipe of the shell's (`<(pass show shrinker)`) is as good, and has no size.
    const { size } = await stat(path);
    if (size > 2 * MAX_PASSPHRASE) throw { code: "EFBIG" };
    return (await readFile(path, "utf8")).replace(/\r?\n$/, "");
  } catch (error) {
    throw fileError("Cannot read the passphrase", path, error);
  }
}

/** Reads the identity; undefined where there is none. */
export async function findIdentity(options: Options): Promise<Identity | undefined> {
  const path = configured(options, "identity");
  if (path === undefined) return undefined;
  return loadIdentity(path, async () => {
    const passphrase = await readPassphrase(options);
    if (passphrase !== undefined) return passphrase;
    throw new ShrinkerError("usage", `"${path}" is encrypted: give SHRINKER_PASSPHRASE, or --passphrase-file FILE`);
  });
}

/** As `findIdentity`. Throws `input` where there is none. */
export async function openIdentity(options: Options): Promise<Identity> {
  const identity = await findIdentity(options);
  if (identity) return identity;
  const path = identityPath(options);
  const advice = "make one by `shrinker identity`, or pass --insecure on a network that you trust";
  throw new ShrinkerError("input", `There is no identity at "${path}": ${advice}`);
}

/** A transport with the keys that the user has. */
export async function withTrust(transport: Transport, { options, output }: Invocation): Promise<Transport> {
  const peer = options.read("peer", (key) => {
    parsePoint(key);
    return key;
  });
  const authorized = new AuthorizedPeers(authorizedPeersPath(options));
  const identity = new IdentityFile(identityPath(options), () => openIdentity(options), output.note);
  await identity.current();
  return secureTransport(transport, {
    identity: () => identity.current(),
    expects: async (address) => peer ?? (await loadKnownPeers(knownPeersPath(options))).get(authorityOf(address)),
    authorized: () => authorized.current(),
    authorizedPath: authorized.path,
    note: output.note,
  });
}
