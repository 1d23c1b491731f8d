import type net from "node:net";
import { ShrinkerError } from "../core/errors.ts";
import { requireSecurity } from "../core/transport/security.ts";
import type { Transport } from "../core/transport/transport.ts";
import { formatHostPort, lookupHost, parseHostPort, reachAny } from "./host.ts";
import { connectSocket, serveSockets } from "./socket.ts";

/** `tcp://HOST:PORT`: TLS 1.3, or plain TCP where `insecure` says so. */
export const tcp: Transport = {
  scheme: "tcp",
  resumable: true,
  authenticates: true,
  async dial(address, { signal, insecure = false, security }) {
    const { host, port } = parseHostPort(address);
    requireSecurity(address, security, insecure);
    if (port === 0) throw new ShrinkerError("usage", `Cannot connect to "${address.text}": give the peer's port`);
    const hosts = await lookupHost(address, host, signal);
    return reachAny(hosts, signal, (ip, timeoutMs) =>
      connectSocket({ host: ip, port }, address.text, { signal, timeoutMs, security }),
    );
  },
  async listen(address, { signal, insecure = false, security, readAhead }) {
    const { host, port } = parseHostPort(address);
    requireSecurity(address, security, insecure);
    const [ip] = await lookupHost(address, host, signal);
    return serveSockets({
      signal,
      text: address.text,
      readAhead,
      security,
      bind: (server) => server.listen({ host: ip!, port }),
      address: (server) => formatHostPort("tcp", ip!, (server.address() as net.AddressInfo).port),
      peer: (socket) => formatHostPort("tcp", socket.remoteAddress ?? "unknown", socket.remotePort ?? 0),
    });
  },
};
