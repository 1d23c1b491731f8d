import { internal, internalMethods, type Server } from "./library.ts";

/** Sources of datagrams that have no session, in a server's life; and what each may send. */
export const MAX_SOURCES = 1024;
const SOURCE_BYTES = 64 << 10;

/** A server's HTTP/3 half, which has no bounds: it keeps the body of any request, whoever asks. */
interface Half {
  recvPaket(packet: {
    readonly msg: Uint8Array;
    readonly rinfo: { readonly address: string; readonly port: number };
  }): unknown;
}

export interface DatagramGate {
  /** Lets a source send what it likes. `peer` is `HOST:PORT`. */
  admit(peer: string): void;
  leave(peer: string): void;
  /** Whether nobody new is let in any more. */
  readonly full: boolean;
  /** To be called before the server is stopped: what it has put off until later would find it gone. */
  shut(): void;
}

/**
 * Stands before the HTTP/3 half of a listener: a source of datagrams that has no session gets `handshakeMs` and 64 KiB. To be
 * called before the server starts. Throws `bug` where that is another version of the library, which could not be bounded.
 */
export function gateDatagrams(server: Server, handshakeMs: number): DatagramGate {
  const half = server.transportInt as Half;
  internalMethods(half, "recvPaket");
  const socket = internal(half, "socket") as { doProcessBufferedChlos(): void };
  internalMethods(socket, "doProcessBufferedChlos");
  const strangers = new Map<string, { bytes: number; readonly since: number }>();
  const admitted = new Set<string>();
  let shut = false;

  function passes(name: string, bytes: number): boolean {
    if (admitted.has(name)) return true;
    const now = performance.now();
    const known = strangers.get(name);
    if (!known && strangers.size >= MAX_SOURCES) return false;
    const stranger = known ?? { bytes: 0, since: now };
    strangers.set(name, stranger);
    stranger.bytes += bytes;
    return stranger.bytes <= SOURCE_BYTES && now - stranger.since <= handshakeMs;
  }
  const receive = half.recvPaket.bind(half);
  half.recvPaket = (packet) => {
    const { address, port } = packet.rinfo;
    return !shut && passes(nameOf(`${address}:${port}`), packet.msg.length) ? receive(packet) : false;
  };
  const later = socket.doProcessBufferedChlos.bind(socket);
  socket.doProcessBufferedChlos = () => {
    if (!shut) later();
  };
  return {
    admit(peer) {
      const name = nameOf(peer);
      strangers.delete(name);
      admitted.add(name);
    },
    leave: (peer) => void admitted.delete(nameOf(peer)),
    get full() {
      return strangers.size >= MAX_SOURCES;
    },
    shut() {
      shut = true;
    },
  };
}

/** One name for a source, however an address of IPv6 is written. */
function nameOf(peer: string): string {
  return peer.replace(/[[\]]/g, "").replace(/^::ffff:/i, "");
}
