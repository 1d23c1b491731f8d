/** Peers that know each other, or don't, for tests of the secure transport. */
import { parseAuthorizedPeers } from "../../core/identity/authorized-peers.ts";
import { type Identity, newIdentity, rotate } from "../../core/identity/identity.ts";
import { type Address, type Connection, type Listener, parseAddress } from "../../core/transport/transport.ts";
import { Abort, decodeControl } from "../../core/wire/control.ts";
import { FrameReader } from "../../core/wire/frame.ts";
import { FRAME } from "../../core/wire/numbers.ts";
import { transports } from "../../transports/registry.ts";
import { secureTransport } from "../../transports/secure.ts";
import { tcp } from "../../transports/tcp.ts";
import { never } from "./helpers.ts";

export interface Peer {
  readonly identity: Identity;
  /** What the user was told. */
  readonly notes: string[];
  /** Has it go on with another key, which its last one vouches for. */
  rotate(): Identity;
  dial(address: string, signal?: AbortSignal): Promise<Connection>;
  listen(signal?: AbortSignal): Promise<Listener>;
}

export interface PeerOptions {
  readonly identity?: Identity;
  /** The key that is pinned, wherever this one dials. */
  readonly pins?: string | undefined;
  /** Lines of `authorized-peers`. */
  readonly authorizes?: () => string;
}

export const at = (text: string): Address => parseAddress(text, transports);

export function peer({ identity = newIdentity(), pins, authorizes = () => "" }: PeerOptions = {}): Peer {
  const notes: string[] = [];
  let today = identity;
  const transport = secureTransport(tcp, {
    identity: async () => today,
    expects: async () => pins,
    authorized: async () => parseAuthorizedPeers(authorizes(), "authorized-peers"),
    authorizedPath: "authorized-peers",
    note: (line) => notes.push(line),
  });
  return {
    identity,
    notes,
    rotate() {
      today = rotate(today);
      return today;
    },
    dial: (address, signal = never) => transport.dial(at(address), { signal }),
    listen: (signal = never) => transport.listen(at("tcp://127.0.0.1:0"), { signal }),
  };
}

/** What a listener has told of why it refuses, or undefined where it has closed without a word. */
export async function refusal(connection: Connection): Promise<string | undefined> {
  try {
    const reader = new FrameReader(connection.input, connection.peer);
    await reader.preface();
    const frame = await reader.next();
    return frame?.type === FRAME.ABORT ? decodeControl(Abort, frame.payload).message : "no ABORT";
  } catch {
    return undefined;
  } finally {
    await connection.destroy();
  }
}
