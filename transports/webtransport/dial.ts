import { once } from "node:events";
import http2 from "node:http2";
import { isIPv6 } from "node:net";
import { abortReason, LinkError, ProtocolError } from "../../core/errors.ts";
import type { DialSecurity } from "../../core/transport/security.ts";
import type { Connection } from "../../core/transport/transport.ts";
import { framedConnection } from "../framed/connection.ts";
import { secureSocket } from "../socket.ts";
import type { SecureStream } from "../tls.ts";
import {
  type ClientParts,
  internal,
  internalMethods,
  type LoadedLibrary,
  missing,
  type NativeSession,
  type ReliableClient,
} from "./library.ts";
import { harden, PATH, sessionLink, WINDOWS, widen } from "./link.ts";

/** What a listener's HTTP/2 settings say of WebTransport (draft-ietf-webtrans-http2), which the library reads. */
const SETTINGS = [0x2b61, 0x2b62, 0x2b63, 0x2b64, 0x2b65];

/** Between the end of a connection and dropping it. */
const GRACE_MS = 1000;

export interface Dialling {
  readonly library: LoadedLibrary;
  readonly port: number;
  /** The address, for messages. */
  readonly peer: string;
  readonly security: DialSecurity;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/**
 * Connects. The library can't be told whom to trust: its HTTP/2 half takes the system's authorities, and the hash of a
 * certificate besides. So it gets a connection of TLS that has proved who the listener is, and makes none of its own. Its
 * HTTP/3 half is told the hash of the certificate that this connection has shown: whoever shows the same one, and signs by
 * its key, is the same listener. Where HTTP/3 is tried, that costs the round trips of one more handshake.
 */
export async function connectSession(ip: string, dialling: Dialling): Promise<Connection> {
  const { library, port, peer, security, signal, timeoutMs } = dialling;
  const deadline = performance.now() + timeoutMs;
  const protocols = ["h2"];
  const { socket, secure } = await secureSocket({ host: ip, port }, peer, { security, signal, timeoutMs, protocols });
  // Not all runtimes' HTTP/2 sees that it is over. What has come is to be read first.
  socket.once("end", () => setTimeout(() => socket.destroy(), GRACE_MS).unref());
  const left = Math.max(1, deadline - performance.now());
  const given = Promise.withResolvers<never>();
  given.promise.catch(() => {});
  const Client = clientOver(library, secure, given.reject);
  const client = new Client(`https://${isIPv6(ip) ? `[${ip}]` : ip}:${port}${PATH}`, {
    ...WINDOWS,
    forceReliable: !library.http3,
    ...(library.http3 && { serverCertificateHashes: [{ algorithm: "sha-256", value: hashOf(secure) }] }),
    // Where HTTP/3 is tried first, half of the time is for HTTP/2.
    quicConnectTimeout: library.http3 ? left / 2 : left,
    webTransportConnectTimeout: left,
  });
  const overHttp3 = () => client.reliability === "supports-unreliable";
  const cut = () => {
    if (overHttp3()) client.close();
    socket.destroy();
  };
  client.closed.catch(() => {});
  client.ready.catch(() => {});
  const onAbort = () => given.reject(abortReason(signal));
  signal.addEventListener("abort", onAbort);
  const late = () => given.reject(Object.assign(new Error("it took too long"), { code: "ETIMEDOUT" }));
  const timer = setTimeout(late, left);
  const closed = once(socket, "close").catch(() => {});
  void closed.then(() => given.reject(new LinkError(`Lost the connection to ${peer} before its session was open`)));
  try {
    if (signal.aborted) onAbort();
    await Promise.race([client.ready, given.promise]);
    const carrier = overHttp3() ? "HTTP/3" : "HTTP/2";
    if (carrier === "HTTP/3") socket.destroy();
    else harden(internal(client.sessionint, "objint") as NativeSession, cut);
    const gone = carrier === "HTTP/3" ? client.closed : closed;
    const stream = await Promise.race([client.createBidirectionalStream(), given.promise]);
    const link = sessionLink({ session: client, stream, remote: { ip, port }, issuer: secure.issuer, cut, gone });
    return { ...framedConnection(link, peer, { opens: true }), carrier };
  } catch (error) {
    cut();
    if (!(error instanceof Error && error.name === "WebTransportError")) throw error;
    const advice = "does a `shrinker` of this version listen there, at webtransport://?";
    throw new ProtocolError(`Cannot connect to ${peer}: it refused the session of WebTransport; ${advice}`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/**
 * The library's client, whose HTTP/2 half uses a connection of ours. Its constructor throws `bug`, and drops that connection,
 * where another version of the library would make one of its own.
 * @param failed told of the same, where that shows only later; the client makes no connection then either
 */
export function clientOver(
  library: LoadedLibrary,
  secure: SecureStream,
  failed: (error: unknown) => void = () => {},
): LoadedLibrary["WebTransport"] {
  let ours = false;
  const use = <T>(act: () => T): T => {
    try {
      return act();
    } catch (error) {
      failed(error);
      throw error;
    }
  };
  return class extends library.WebTransport {
    constructor(url: string, options: object) {
      try {
        super(url, options);
        if (!ours) throw missing("startUpConnection");
      } catch (error) {
        secure.stream.destroy();
        throw error;
      }
    }

    override startUpConnection(parts: ClientParts): void {
      const { args } = parts.client;
      internalMethods(args, "createReliableClient");
      const make = args.createReliableClient;
      args.createReliableClient = (client) =>
        use(() => {
          const made = make(client);
          internalMethods(made, "createTransport");
          made.createTransport = () => use(() => openHttp2(made, secure));
          return made;
        });
      ours = true;
      super.startUpConnection(parts);
    }
  };
}

/** Does what the library's client does, over a connection that is there. */
function openHttp2(client: ReliableClient, { stream }: SecureStream): void {
  internalMethods(internal(client, "jsobj"), "onClientConnected", "onClientWebTransportSupport");
  const session = http2.connect("https://shrinker.invalid", {
    createConnection: () => stream,
    settings: {
      enableConnectProtocol: true,
      customSettings: {
        [SETTINGS[0]!]: client.initialSessionFlowControlWindow,
        [SETTINGS[1]!]: client.initialStreamFlowControlWindow,
        [SETTINGS[2]!]: client.initialStreamFlowControlWindow,
        [SETTINGS[3]!]: client.initialUnidirectionalStreams,
        [SETTINGS[4]!]: client.initialBidirectionalStreams,
      },
    },
    remoteCustomSettings: SETTINGS,
  });
  client.clientInt = session;
  let known = false;
  session.on("connect", () => {
    known = true;
    widen(session);
    client.jsobj.onClientConnected({ success: true });
  });
  session.on("error", () => {
    if (!known) client.jsobj.onClientConnected({ success: false });
    known = true;
  });
  session.on("remoteSettings", ({ enableConnectProtocol }) => {
    if (enableConnectProtocol) client.jsobj.onClientWebTransportSupport({});
  });
}

function hashOf({ fingerprint = "" }: SecureStream): Buffer {
  return Buffer.from(fingerprint.replaceAll(":", ""), "hex");
}
