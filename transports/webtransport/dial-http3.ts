import { isIPv6 } from "node:net";
import { abortReason } from "../../core/errors.ts";
import {
  type BidirectionalStream,
  type ClientParts,
  type ClientSession,
  internal,
  internalMethods,
  type LoadedLibrary,
} from "./library.ts";
import { PATH, WINDOWS } from "./link.ts";
import { openStream } from "./open-stream.ts";

export interface Http3Dialling {
  readonly library: LoadedLibrary;
  /** SHA-256 of the certificate that the listener has to show. */
  readonly certificate: Buffer;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/** A session over HTTP/3. */
export interface Http3Session {
  readonly session: ClientSession;
  readonly stream: BidirectionalStream;
  /** Ends the connection at once. */
  cut(): void;
}

/** Opens a session with one stream. Rejects where it can't, for whatever reason: HTTP/2 is for those. */
export async function dialHttp3(ip: string, port: number, dialling: Http3Dialling): Promise<Http3Session> {
  const { library, certificate, signal, timeoutMs } = dialling;
  let cut = () => {};
  class Client extends library.WebTransport {
    override startUpConnection(parts: ClientParts): void {
      super.startUpConnection(parts);
      cut = closeOnce(parts);
    }
  }
  const session = new Client(`https://${isIPv6(ip) ? `[${ip}]` : ip}:${port}${PATH}`, {
    ...WINDOWS,
    // It would look for the name "[::1]".
    host: ip,
    requireUnreliable: true,
    serverCertificateHashes: [{ algorithm: "sha-256", value: certificate }],
    quicConnectTimeout: timeoutMs,
    webTransportConnectTimeout: timeoutMs,
  });
  try {
    const stream = await openStream(session, { signal, timeoutMs });
    if (session.reliability !== "supports-unreliable") throw new Error("it goes over something else");
    if (signal.aborted) throw abortReason(signal);
    return { session, stream, cut };
  } catch (error) {
    cut();
    throw error;
  }
}

/** Of a client's HTTP/3 half. */
interface ClientHalf {
  closeClient(): void;
}

/** How often, and how many milliseconds apart, it is looked whether a client's socket is there that is to be closed. */
const LOOKS = 50;
const LOOK_MS = 20;

/** Has the library close a client once, and not before its socket is there: it throws where nobody catches it. */
function closeOnce({ client }: ClientParts): () => void {
  const half = internal(client, "transportInt") as ClientHalf;
  internalMethods(half, "closeClient");
  const socket = internal(half, "socket") as { readonly socketInt?: unknown };
  const close = half.closeClient.bind(half);
  const closeSoon = (looks: number): void => {
    if (socket.socketInt !== undefined) close();
    else if (looks > 0) setTimeout(closeSoon, LOOK_MS, looks - 1);
  };
  let closed = false;
  // The library's own calls go the same way.
  half.closeClient = () => {
    if (closed) return;
    closed = true;
    closeSoon(LOOKS);
  };
  return half.closeClient;
}
