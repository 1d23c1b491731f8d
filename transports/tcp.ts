import type net from "node:net";
import type { Transport } from "../core/transport/transport.ts";
import { formatHostPort, lookupHost, placeToDial, placeToListen, reachAny } from "./host.ts";
import { connectSocket, serveSockets } from "./socket.ts";

/** `tcp://HOST:PORT`: TLS 1.3, or plain TCP where `insecure` says so. */
export const tcp: Transport = {
  scheme: "tcp",
  resumable: true,
  authenticates: true,
  async dial(address, options) {
    const { signal, security } = options;
    const { host, port } = placeToDial(address, options);
    const hosts = await lookupHost(address, host, signal);
    return reachAny(hosts, signal, (ip, timeoutMs) =>
      connectSocket({ host: ip, port }, address.text, { signal, timeoutMs, security }),
    );
  },
  async listen(address, options) {
    const { signal, security, readAhead } = options;
    const { host, port } = placeToListen(address, options);
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
