import { ShrinkerError } from "../core/errors.ts";
import type { AuthorizedPeer } from "../core/identity/authorized-peers.ts";
import { issueLeaf, synthesizeAnchor } from "../core/identity/certificates.ts";
import { current, type Identity } from "../core/identity/identity.ts";
import { generateKey } from "../core/identity/key.ts";
import { makeProof } from "../core/identity/proof.ts";
import { ProofChecker } from "../core/identity/proof-checker.ts";
import { SERVER_NAME, UntrustedPeerError } from "../core/transport/security.ts";
import type {
  Address,
  Connection,
  DialOptions,
  Listener,
  ListenOptions,
  Transport,
} from "../core/transport/transport.ts";
import { acceptQueue } from "./accept.ts";
import { introduce, paces } from "./introduction.ts";
import { Strangers } from "./strangers.ts";

/** Whom this end is, and whom it trusts. */
export interface Trust {
  /** As of now: a process may outlive its key. */
  identity(): Promise<Identity>;
  /** The key to expect at an address, as text; undefined where none is known. */
  expects(address: Address): Promise<string | undefined>;
  /** Who may dial, as of now. Rejects where that can't be told: then nobody may. */
  authorized(): Promise<ReadonlyMap<string, AuthorizedPeer>>;
  /** Where `authorized` comes from, for messages. */
  readonly authorizedPath: string;
  /** Told what the user should know, a line each. */
  readonly note: (line: string) => void;
}

/**
 * A transport whose peers know each other: who dials sees that the listener's key is the one that is pinned, and proves its
 * own before anything else crosses; a listener gives out only connections of peers that are authorized, with their
 * `identity`. A transport that doesn't authenticate, and one that is told to be `insecure`, are used as they are.
 */
export function secureTransport(transport: Transport, trust: Trust): Transport {
  if (!transport.authenticates) return transport;
  return {
    ...transport,
    dial: (address, options) =>
      options.insecure ? transport.dial(address, options) : dial(transport, trust, address, options),
    listen: (address, options) =>
      options.insecure ? transport.listen(address, options) : listen(transport, trust, address, options),
  };
}

async function dial(transport: Transport, trust: Trust, address: Address, options: DialOptions): Promise<Connection> {
  const { note } = trust;
  const { text } = address;
  const expected = await trust.expects(address);
  // Nobody has this one: it is only to hear which key the listener claims to have.
  const word = expected ?? generateKey().word;
  const security = { anchor: synthesizeAnchor(word), serverName: SERVER_NAME };
  let connection: Connection;
  try {
    connection = await transport.dial(address, { ...options, security });
  } catch (error) {
    if (!(error instanceof UntrustedPeerError) || expected !== undefined) throw error;
    const how = `ask there for what \`shrinker identity\` shows, and pin it by \`shrinker identity --pin ${text} KEY\``;
    const claim = error.claims === undefined ? "" : `; it claims to be ${error.claims}`;
    throw new ShrinkerError("refused", `The key of ${text} is not known here${claim}: ${how}`);
  }
  try {
    if (connection.issuer !== undefined && connection.issuer !== word)
      note(
        `${text} has a new key, which its old one vouches for: \`shrinker identity --pin ${text} ${connection.issuer}\``,
      );
    await connection.write([makeProof(await trust.identity(), word)]);
    return connection;
  } catch (error) {
    await connection.destroy();
    throw error;
  }
}

async function listen(transport: Transport, trust: Trust, address: Address, options: ListenOptions): Promise<Listener> {
  const { authorizedPath, note } = trust;
  const now = new Date();
  const peers = [...(await trust.authorized()).values()];
  if (!peers.some(({ expires }) => expires === undefined || expires > now)) {
    const advice = "add a line KEY name=NAME, with the key that `shrinker identity` shows at the other end";
    throw new ShrinkerError(
      "refused",
      `Nobody may connect to ${address.text}: "${authorizedPath}" names nobody; ${advice}`,
    );
  }
  let shown: string | undefined;
  const credentials = async () => {
    const identity = await trust.identity();
    shown = identity.word;
    return issueLeaf(
      identity,
      current(identity.successions).map(({ der }) => der),
    );
  };
  const outdated = async () => (await trust.identity()).word !== shown;
  const inner = await transport.listen(address, { ...options, security: { credentials, outdated } });
  const checker = new ProofChecker(
    () => trust.identity(),
    () => trust.authorized(),
    note,
  );
  const pace = paces();
  const accepted = acceptQueue();
  const strangers = new Strangers<Connection>(
    (one) => void one.destroy(new ShrinkerError("refused", "There are too many strangers")),
  );

  async function meet(connection: Connection): Promise<void> {
    strangers.add(connection);
    const known = await introduce(connection, checker, pace).finally(() => strangers.release(connection));
    if (known) accepted.offer(known);
  }
  async function serve(): Promise<void> {
    for (;;) {
      const connection = await inner.accept();
      if (connection === undefined) return accepted.close();
      void meet(connection);
    }
  }
  serve().catch((error) => accepted.close(error));
  return {
    address: inner.address,
    carrier: inner.carrier,
    accept: accepted.accept,
    async close() {
      await inner.close();
      accepted.close();
      await Promise.all([...strangers].map((stranger) => stranger.destroy()));
    },
  };
}
