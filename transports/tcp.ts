import { lookup } from "node:dns/promises";
import type net from "node:net";
import { abortReason, ShrinkerError } from "../core/errors.ts";
import { requireSecurity } from "../core/transport/security.ts";
import type { Address, Connection, Transport } from "../core/transport/transport.ts";
import { socketError } from "./advice.ts";
import { CONNECT_MS, connectSocket, serveSockets } from "./socket.ts";

/** The least time that each of a host's addresses gets, where it has several. */
const ATTEMPT_MS = 2500;

interface HostPort {
  readonly host: string;
  readonly port: number;
}

function parseHostPort({ rest, text }: Address): HostPort {
  const match = /^(?:\[([0-9a-f:.%\w]+)\]|([^:[\]/\s]+)):(\d{1,5})$/i.exec(rest);
  const port = Number(match?.[3]);
  if (!match || port > 65535)
    throw new ShrinkerError("usage", `Cannot parse "${text}": expected tcp://HOST:PORT or tcp://[IPV6]:PORT`);
  return { host: (match[1] ?? match[2]) as string, port };
}

function format(host: string, port: number): string {
  return host.includes(":") ? `tcp://[${host}]:${port}` : `tcp://${host}:${port}`;
}

/** The host's addresses. */
async function resolve(address: Address, host: string, signal: AbortSignal): Promise<string[]> {
  if (signal.aborted) throw abortReason(signal);
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(abortReason(signal));
  signal.addEventListener("abort", onAbort);
  try {
    // A name server may take its time: the signal must not wait for it.
    const found = await Promise.race([lookup(host, { all: true }), aborted.promise]);
    return found.map((entry) => entry.address);
  } catch (error) {
    throw socketError("Cannot use", address.text, error);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** `tcp://HOST:PORT`: TLS 1.3, or plain TCP where `insecure` says so. */
export const tcp: Transport = {
  scheme: "tcp",
  resumable: true,
  authenticates: true,
  async dial(address, { signal, insecure = false, security }) {
    const { host, port } = parseHostPort(address);
    requireSecurity(address, security, insecure);
    if (port === 0) throw new ShrinkerError("usage", `Cannot connect to "${address.text}": give the peer's port`);
    const hosts = await resolve(address, host, signal);
    const deadline = performance.now() + CONNECT_MS;
    let connection: Connection | undefined;
    let failure: unknown;
    // One after the other, so that a host whose first address is dead is still reached by its second.
    for (let i = 0; i < hosts.length && connection === undefined; i++) {
      const left = deadline - performance.now();
      if (left <= 0) break;
      const share = Math.min(left, Math.max(ATTEMPT_MS, left / (hosts.length - i)));
      try {
        connection = await connectSocket({ host: hosts[i]!, port }, address.text, {
          signal,
          timeoutMs: share,
          security,
        });
      } catch (error) {
        if (signal.aborted) throw error;
        failure = error;
      }
    }
    if (connection === undefined) throw failure;
    return connection;
  },
  async listen(address, { signal, insecure = false, security, readAhead }) {
    const { host, port } = parseHostPort(address);
    requireSecurity(address, security, insecure);
    const [ip] = await resolve(address, host, signal);
    return serveSockets({
      signal,
      text: address.text,
      readAhead,
      security,
      bind: (server) => server.listen({ host: ip!, port }),
      address: (server) => format(ip!, (server.address() as net.AddressInfo).port),
      peer: (socket) => format(socket.remoteAddress ?? "unknown", socket.remotePort ?? 0),
    });
  },
};
