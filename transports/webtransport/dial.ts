import { once } from "node:events";
import http2 from "node:http2";
import { isIPv6 } from "node:net";
import { abortReason, LinkError, ProtocolError } from "../../core/errors.ts";
import type { DialSecurity } from "../../core/transport/security.ts";
import type { Connection } from "../../core/transport/transport.ts";
import { framedConnection } from "../framed/connection.ts";
import { secureSocket } from "../socket.ts";
import type { SecureStream } from "../tls.ts";
import { dialHttp3 } from "./dial-http3.ts";
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
import { openStream } from "./open-stream.ts";

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

/** HTTP/3 is given as long as so many handshakes of TCP and TLS took, and this at least: no answer says that it isn't there. */
const HTTP3_HANDSHAKES = 5;
const HTTP3_MS = 1000;

/**
 * Connects. The library can't be told whom to trust: its HTTP/2 half takes the system's authorities, and the hash of a
 * certificate besides. So it gets a connection of TLS that has proved who the listener is, and makes none of its own. Its
 * HTTP/3 half is told the hash of the certificate that this connection has shown: whoever shows the same one, and signs by
 * its key, is the same listener. Where HTTP/3 is tried, that costs the round trips of one more handshake; where it comes to
 * nothing, the connection is still there for HTTP/2.
 */
export async function connectSession(ip: string, dialling: Dialling): Promise<Connection> {
  const { library, port, peer, security, signal, timeoutMs } = dialling;
  const began = performance.now();
  const protocols = ["h2"];
  const { socket, secure } = await secureSocket({ host: ip, port }, peer, { security, signal, timeoutMs, protocols });
  const handshakeMs = performance.now() - began;
  const left = () => Math.max(1, began + timeoutMs - performance.now());
  // Not all runtimes' HTTP/2 sees that it is over. What has come is to be read first.
  socket.once("end", () => setTimeout(() => socket.destroy(), GRACE_MS).unref());
  // It may break while HTTP/3 is tried, when nobody else listens.
  socket.on("error", () => {});
  secure.stream.on("error", () => {});
  const remote = { ip, port };
  const { issuer } = secure;
  if (library.http3 && left() > 2 * HTTP3_MS) {
    const patience = Math.min(left() / 2, Math.max(HTTP3_MS, HTTP3_HANDSHAKES * handshakeMs));
    const certificate = hashOf(secure);
    const opened = await dialHttp3(ip, port, { library, certificate, signal, timeoutMs: patience }).catch(
      () => undefined,
    );
    if (opened) {
      socket.destroy();
      const link = sessionLink({ ...opened, remote, issuer, gone: opened.session.closed });
      return { ...framedConnection(link, peer, { opens: true }), carrier: "HTTP/3" };
    }
  }
  const cut = () => void socket.destroy();
  const given = Promise.withResolvers<never>();
  given.promise.catch(() => {});
  const closed = once(socket, "close").catch(() => {});
  const lost = () => new LinkError(`Lost the connection to ${peer} before its session was open`);
  void closed.then(() => given.reject(lost()));
  try {
    if (signal.aborted) throw abortReason(signal);
    if (socket.destroyed) throw lost();
    const Client = clientOver(library, secure, given.reject);
    const client = new Client(`https://${isIPv6(ip) ? `[${ip}]` : ip}:${port}${PATH}`, {
      ...WINDOWS,
      forceReliable: true,
      quicConnectTimeout: left(),
      webTransportConnectTimeout: left(),
    });
    const onReady = () => harden(internal(client.sessionint, "objint") as NativeSession, cut);
    const stream = await openStream(client, { signal, timeoutMs: left(), failed: given.promise, onReady });
    const link = sessionLink({ session: client, stream, remote, issuer, cut, gone: closed });
    return { ...framedConnection(link, peer, { opens: true }), carrier: "HTTP/2" };
  } catch (error) {
    cut();
    if (!(error instanceof Error && error.name === "WebTransportError")) throw error;
    const advice = "does a `shrinker` of this version listen there, at webtransport://?";
    throw new ProtocolError(`Cannot connect to ${peer}: it refused the session of WebTransport; ${advice}`, {
      cause: error,
    });
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
