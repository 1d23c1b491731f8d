import { isIPv6 } from "node:net";
import { abortReason, systemCode } from "../../core/errors.ts";
import type { DenoConnection, DenoQuic, DenoStream } from "../../core/transport/quic-api.ts";
import type { Credentials } from "../../core/transport/security.ts";
import { StreamFailure, type StreamLink } from "../framed/link.ts";
import { ALPN, alertFailure, CLOSED, type QuicListenOptions, type QuicRuntime, type QuicServer } from "./runtime.ts";

/** Deno's own QUIC (quinn). Its windows are its own; a socket is released when its endpoint is garbage, or at the exit. */
export function denoQuic(quic: DenoQuic): QuicRuntime {
  return {
    async dial(ip, port, { security, signal, idleMs }) {
      if (signal.aborted) throw abortReason(signal);
      // Of its own: closing it ends an attempt, for which there is no other way.
      const endpoint = new quic.QuicEndpoint({ hostname: isIPv6(ip) ? "::" : "0.0.0.0", port: 0 });
      const onAbort = () => endpoint.close();
      signal.addEventListener("abort", onAbort);
      try {
        const connection = await quic.connectQuic({
          ...transport(idleMs, 0),
          hostname: ip,
          port,
          serverName: security.serverName,
          caCerts: [security.anchor],
          alpnProtocols: [ALPN],
          endpoint,
        });
        return denoLink(connection, await connection.createBidirectionalStream(), () => endpoint.close());
      } catch (error) {
        endpoint.close();
        if (signal.aborted) throw abortReason(signal);
        throw failure(error);
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    },
    async listen(ip, port, options) {
      const endpoint = open(quic, ip, port);
      let current = serve(endpoint, options.credentials, options);
      return {
        port: endpoint.addr.port,
        renew(credentials) {
          current.stop();
          current = serve(endpoint, credentials, options);
        },
        close: async () => current.stop(),
      } satisfies QuicServer;
    },
  };
}

function open(quic: DenoQuic, ip: string, port: number) {
  try {
    return new quic.QuicEndpoint({ hostname: ip, port });
  } catch (error) {
    throw failure(error);
  }
}

function transport(idleMs: number, streams: number) {
  return {
    keepAliveInterval: Math.floor(idleMs / 3),
    maxIdleTimeout: idleMs,
    maxConcurrentBidirectionalStreams: streams,
    maxConcurrentUnidirectionalStreams: 0,
  };
}

type Endpoint = InstanceType<DenoQuic["QuicEndpoint"]>;

function serve(
  endpoint: Endpoint,
  { certificates, privateKey }: Credentials,
  { idleMs, onPeer }: QuicListenOptions,
): { stop(): void } {
  const listener = endpoint.listen({
    ...transport(idleMs, 1),
    cert: certificates,
    key: privateKey,
    alpnProtocols: [ALPN],
  });
  let stopped = false;
  const accept = async () => {
    while (!stopped) {
      const incoming = await listener.incoming();
      let dropped = false;
      let connection: DenoConnection | undefined;
      const link = (async () => {
        connection = await incoming.accept();
        if (dropped) connection.close({ closeCode: CLOSED, reason: "" });
        const streams = connection.incomingBidirectionalStreams.getReader();
        const { value } = await streams.read();
        if (!value) throw new StreamFailure("ECONNRESET");
        return denoLink(connection, value);
      })();
      const drop = () => {
        dropped = true;
        connection?.close({ closeCode: CLOSED, reason: "" });
      };
      onPeer({ link, drop });
    }
  };
  // It is over when the listener is stopped.
  accept().catch(() => {});
  return {
    stop() {
      if (!stopped) listener.stop();
      stopped = true;
    },
  };
}

function denoLink(connection: DenoConnection, stream: DenoStream, closed?: () => void): StreamLink {
  const reader = stream.readable.getReader();
  const writer = stream.writable.getWriter();
  writer.closed.catch(() => {});
  const { hostname, port } = connection.remoteAddr;
  // Why a stream broke is the connection's to say.
  const gone = connection.closed.then(
    () => new StreamFailure("ECONNRESET"),
    (error) => failure(error),
  );
  return {
    remote: { ip: hostname, port },
    async read() {
      const { value } = await reader.read().catch(() => ({ value: undefined }));
      if (value === undefined) throw await gone;
      return [value];
    },
    async write(buffers) {
      try {
        await Promise.all(buffers.map((buffer) => writer.write(buffer)));
      } catch {
        throw await gone;
      }
    },
    async close() {
      connection.close({ closeCode: CLOSED, reason: "" });
      await gone;
      closed?.();
    },
  };
}

/** Deno's errors have no codes but for the system's: the rest is in their words. */
function failure(error: unknown): StreamFailure {
  if (error instanceof StreamFailure) return error;
  const message = error instanceof Error ? error.message : String(error);
  const alert = /handshake failed: error (\d+)/.exec(message)?.[1];
  if (alert !== undefined) return alertFailure(Number(alert), error);
  if (systemCode(error) === "EADDRINUSE") return new StreamFailure("EADDRINUSE", error);
  if (/timed out/.test(message)) return new StreamFailure("ETIMEDOUT", error);
  if (/refused/.test(message)) return new StreamFailure("ECONNREFUSED", error);
  return new StreamFailure(
    /aborted by peer|closed by peer|reset by peer/.test(message) ? "ECONNRESET" : "OTHER",
    error,
  );
}
