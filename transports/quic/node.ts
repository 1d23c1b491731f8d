import { createPrivateKey } from "node:crypto";
import { isIPv6 } from "node:net";
import type { QuicEndpoint, QuicSession, QuicStream, SessionOptions } from "node:quic";
import { setTimeout as sleep } from "node:timers/promises";
import { abortReason } from "../../core/errors.ts";
import { isKeyWord } from "../../core/identity/key.ts";
import type { NodeQuic } from "../../core/transport/quic-api.ts";
import type { Credentials } from "../../core/transport/security.ts";
import { within } from "../../core/within.ts";
import { StreamFailure, type StreamLink } from "../framed/link.ts";
import { ALPN, alertFailure, CLOSED, type QuicOptions, type QuicRuntime, type QuicServer } from "./runtime.ts";

/** Bytes that wait for the network before the next ones do. What lies in Bun's buffers costs it time. */
const WRITE_AHEAD = 128 << 10;
/** Written at once: Bun looks at the room before a write, and not at its length. */
const WRITE = 16 << 10;
/** Of the stream: more than the transport above ever grants. */
const WINDOW = 16 << 20;
const MAX_CONNECTIONS = 4096;

/** For how long a listener's close waits until its socket is free, which it is once the last connection has ended. */
const CLOSE_MS = 50;
/** Milliseconds between two looks at a writer that takes nothing, and does not say when it will. */
const LOOK_MS = 8;

/** Where a writer tells when it takes something again. */
const DRAIN = Symbol.for("Stream.drainableProtocol");
type Writer = QuicStream["writer"] & {
  readonly desiredSize?: number | null;
  readonly [DRAIN]?: () => Promise<unknown> | null;
};

/** `node:quic`, as Bun 1.4 has it. */
export function nodeQuic(quic: NodeQuic): QuicRuntime {
  const diallers = new Map<string, QuicEndpoint>();
  /** One socket for all that dial, which never closes: Bun holds packets back for a second around that. */
  function dialler(address: string): QuicEndpoint {
    let endpoint = diallers.get(address);
    if (!endpoint || endpoint.destroyed) {
      endpoint = new quic.QuicEndpoint({ address });
      endpoint.closed.catch(() => {});
      diallers.set(address, endpoint);
    }
    return endpoint;
  }
  return {
    async dial(ip, port, options) {
      const { security, signal } = options;
      if (signal.aborted) throw abortReason(signal);
      const endpoint = dialler(isIPv6(ip) ? "[::]:0" : "0.0.0.0:0");
      let onAbort: (() => void) | undefined;
      let issuer: string | undefined;
      try {
        const session = await quic.connect(socketAddress(ip, port), {
          ...sessionOptions(options, 0),
          endpoint,
          alpn: ALPN,
          ca: Buffer.from(security.anchor),
          servername: security.serverName,
          verifyPeer: "auto",
          // The last moment at which an untrusted certificate is shown.
          onhandshake(this: QuicSession) {
            issuer = issuerOf(this);
          },
        });
        // Also the reason of `opened`, and of every stream.
        session.closed.catch(() => {});
        onAbort = () => session.destroy();
        signal.addEventListener("abort", onAbort);
        const info = await session.opened;
        // Fails closed, should a runtime forget what it was asked for.
        if (info.validationErrorReason) throw new StreamFailure("UNTRUSTED", info.validationErrorReason);
        const stream = await session.createBidirectionalStream({ highWaterMark: WRITE_AHEAD });
        return nodeLink(session, stream, options.idleMs, issuer);
      } catch (error) {
        if (signal.aborted) throw abortReason(signal);
        throw failure(error, issuer);
      } finally {
        if (onAbort) signal.removeEventListener("abort", onAbort);
      }
    },
    async listen(ip, port, options) {
      const onSession = (session: QuicSession) => {
        session.opened.catch(() => {});
        session.closed.catch(() => {});
        options.onPeer({ link: accepted(session, options.idleMs), drop: () => close(session) });
      };
      const endpoint = await quic
        .listen(onSession, {
          ...sessionOptions(options, 1),
          alpn: [ALPN],
          sni: { "*": identity(options.credentials) },
          endpoint: {
            address: socketAddress(ip, port),
            maxConnectionsPerHost: MAX_CONNECTIONS,
            maxConnectionsTotal: MAX_CONNECTIONS,
          },
        })
        .catch((error) => {
          throw failure(error);
        });
      endpoint.closed.catch(() => {});
      // Bun says nothing where it can't bind.
      if (!endpoint.address) throw new StreamFailure("EADDRINUSE");
      return {
        port: endpoint.address.port,
        renew: (credentials) => endpoint.setSNIContexts({ "*": identity(credentials) }, { replace: true }),
        async close() {
          await within(endpoint.close(), CLOSE_MS);
        },
      } satisfies QuicServer;
    },
  };
}

function socketAddress(ip: string, port: number): string {
  return isIPv6(ip) ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** @param streams that the peer may open */
function sessionOptions({ idleMs }: QuicOptions, streams: number): SessionOptions & { keepAlive: number } {
  return {
    keepAlive: Math.floor(idleMs / 3),
    // As TCP and Deno do. What Bun chooses by itself takes twice the time of a processor.
    cc: "cubic",
    maxWindow: WINDOW,
    maxStreamWindow: WINDOW,
    transportParams: {
      initialMaxData: WINDOW,
      initialMaxStreamDataBidiLocal: WINDOW,
      initialMaxStreamDataBidiRemote: WINDOW,
      initialMaxStreamsBidi: streams,
      initialMaxStreamsUni: 0,
      maxIdleTimeout: idleMs,
    },
  };
}

function identity({ certificates, privateKey }: Credentials) {
  return { keys: createPrivateKey(privateKey), certs: Buffer.from(certificates) };
}

function accepted(session: QuicSession, idleMs: number): Promise<StreamLink> {
  return new Promise((resolve, reject) => {
    session.closed.then(() => reject(new StreamFailure("ECONNRESET")), reject);
    session.onstream = (stream) => {
      session.onstream = (another) => another.destroy();
      stream.highWaterMark = WRITE_AHEAD;
      resolve(nodeLink(session, stream, idleMs));
    };
  });
}

/** The name of the key that a listener's certificate was issued by, where it is a key's word. */
function issuerOf(session: QuicSession): string | undefined {
  const name = /(?:^|\n)CN=(.+)/.exec(session.peerCertificate?.issuer ?? "")?.[1];
  return name !== undefined && isKeyWord(name) ? name : undefined;
}

function nodeLink(session: QuicSession, stream: QuicStream, idleMs: number, issuer?: string): StreamLink {
  stream.closed.catch(() => {});
  watch(session, idleMs);
  const { remote } = session.path ?? {};
  const writer = stream.writer as Writer;
  const input = stream[Symbol.asyncIterator]();
  const gone = session.closed.then(
    // Without an error: that is silence, for whoever closes it says so.
    () => new StreamFailure("ETIMEDOUT"),
    (error) => failure(error),
  );
  let over: StreamFailure | undefined;
  void gone.then((failure) => {
    over = failure;
  });
  return {
    remote: { ip: remote?.address ?? "unknown", port: remote?.port ?? 0 },
    issuer,
    async read() {
      const { value, done } = await input.next().catch(() => ({ value: undefined, done: true }));
      // Why it ended is the connection's to say.
      if (done || value === undefined) throw await gone;
      return value;
    },
    async write(buffers) {
      for (const buffer of buffers)
        for (let at = 0; at < buffer.length; at += WRITE) {
          const part = buffer.subarray(at, at + WRITE);
          for (;;) {
            await room(writer);
            if (writer.writeSync(part)) break;
            if (over) throw over;
            // Bun refuses what it has room for now and then, and takes it the next time.
            await sleep(LOOK_MS);
          }
        }
    },
    async close() {
      close(session);
      await session.closed.catch(() => {});
    },
  };
}

function close(session: QuicSession): void {
  session.destroy(undefined, { code: CLOSED, type: "application" });
}

/** Looks within the time of silence that is allowed. */
const LOOKS = 4;

/**
 * Ends a session that hears nothing, although its signs of life ask for an answer: Bun 1.4 does so only where it has nothing
 * to send. Looks are counted and not the time, which passes also while this process is stopped.
 */
function watch(session: QuicSession, idleMs: number): void {
  let heard = session.stats.bytesReceived;
  let silent = 0;
  const timer = setInterval(() => {
    const { bytesReceived } = session.stats;
    silent = bytesReceived === heard ? silent + 1 : 0;
    heard = bytesReceived;
    if (silent >= LOOKS) session.destroy();
  }, idleMs / LOOKS);
  timer.unref();
  const stop = () => clearInterval(timer);
  session.closed.then(stop, stop);
}

/** Waits until a writer takes something, or is closed. Looks at it, too, since Bun forgets now and then to say so. */
async function room(writer: Writer): Promise<void> {
  while (writer.desiredSize === 0) await within(writer[DRAIN]?.() ?? sleep(LOOK_MS), LOOK_MS);
}

function failure(error: unknown, claims?: string): StreamFailure {
  if (error instanceof StreamFailure) return error;
  const { errorCode, type, message = "" } = (error ?? {}) as { errorCode?: bigint; type?: string; message?: string };
  if (/certificate validation failed/.test(message)) return new StreamFailure("UNTRUSTED", error, claims);
  if (type === "transport" && errorCode !== undefined) {
    if (errorCode >= 0x100n && errorCode < 0x200n && !/timed out/.test(message))
      return alertFailure(Number(errorCode) - 0x100, error);
    if (errorCode === 2n) return new StreamFailure("ECONNREFUSED", error);
    if (/timed out|timeout/.test(message)) return new StreamFailure("ETIMEDOUT", error);
  }
  return new StreamFailure(type === "application" ? "ECONNRESET" : "OTHER", error);
}
