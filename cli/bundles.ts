import { statSync } from "node:fs";
import { openAge } from "../core/age/decrypt.ts";
import type { AgeIdentity } from "../core/age/keys.ts";
import type { DestinationOptions } from "../core/engine/destination-session.ts";
import { proveRecording } from "../core/engine/prove.ts";
import { ShrinkerError } from "../core/errors.ts";
import type { Connection } from "../core/transport/transport.ts";
import { findTransport } from "./addresses.ts";
import { readAgeIdentities } from "./key-files.ts";
import type { Options } from "./options.ts";
import { checkSender, readTrusted, type TrustedSenders } from "./senders.ts";
import { readDomain } from "./settings.ts";

/** Whose bundles are received, and with which keys they are read. */
export interface BundleKeys {
  readonly identities: readonly AgeIdentity[];
  /** Undefined where bundles of anybody are received. */
  readonly trusted: TrustedSenders | undefined;
}

export async function readBundleKeys(options: Options): Promise<BundleKeys> {
  return { identities: await readAgeIdentities(options), trusted: await readTrusted(options, readDomain(options)) };
}

/** A bundle as it is received: decrypted where it is encrypted, with whether its signer is one to receive from. */
export interface ReadBundle {
  readonly connection: Connection;
  readonly checkSigner: NonNullable<DestinationOptions["checkSigner"]>;
}

export function readBundle(connection: Connection, { identities, trusted }: BundleKeys): ReadBundle {
  const opened = openAge(connection, identities);
  const { peer } = connection;
  return {
    connection: opened.connection,
    checkSigner: (signed) => checkSender(signed, trusted, identities, { peer, encrypted: opened.encrypted }),
  };
}

/**
 * Reads a bundle once for its signature alone, where nothing of it may be given out before that is checked and nothing can be
 * taken back later. Throws `usage` for what can't be read twice.
 */
export async function proveBundle(text: string, keys: BundleKeys, signal: AbortSignal): Promise<void> {
  const { address, transport } = findTransport(text);
  if (!statSync(address.rest, { throwIfNoEntry: false })?.isFile()) {
    const message = `--output - of a trusted sender needs a bundle that can be read twice, and "${address.rest}" is no file: copy it to one, or receive it into a folder`;
    throw new ShrinkerError("usage", message);
  }
  const listener = await transport.listen(address, { signal });
  const { connection, checkSigner } = readBundle((await listener.accept())!, keys);
  const cancel = () => void connection.destroy(signal.reason);
  signal.addEventListener("abort", cancel, { once: true });
  try {
    await proveRecording(connection, checkSigner);
  } finally {
    await listener.close();
    signal.removeEventListener("abort", cancel);
  }
}
