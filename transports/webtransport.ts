import type { Transport } from "../core/transport/transport.ts";
import { socketError } from "./advice.ts";
import { lookupHost, placeToDial, placeToListen, reachAny } from "./host.ts";
import { dialAnybody, listenAsNobody } from "./nobody.ts";
import { CONNECT_MS } from "./socket.ts";
import { connectSession } from "./webtransport/dial.ts";
import { type LoadedLibrary, loadLibrary } from "./webtransport/library.ts";
import { type ServingTimes, serveSessions } from "./webtransport/serve.ts";

export interface WebTransportOptions {
  /** Milliseconds that a host gets to answer, over all of its addresses. */
  readonly connectMs?: number;
  readonly times?: ServingTimes;
  /** Gives the library. Rejects where it is not installed. */
  readonly load?: (text: string) => Promise<LoadedLibrary>;
}

/**
 * `webtransport://HOST:PORT`: one stream of a WebTransport session (draft-ietf-webtrans-http3 and -http2), by
 * `@fails-components/webtransport`: over HTTP/3 where the native part of that is there at both ends, else over HTTP/2.
 */
export function webtransportTransport(options: WebTransportOptions = {}): Transport {
  const { connectMs = CONNECT_MS, times, load = loadLibrary } = options;
  return {
    scheme: "webtransport",
    resumable: true,
    authenticates: true,
    async dial(address, options) {
      const { signal, security } = options;
      const { host, port } = placeToDial(address, options);
      const library = await load(address.text);
      const hosts = await lookupHost(address, host, signal);
      const dialling = { library, port, peer: address.text, security: security ?? (await dialAnybody()), signal };
      const attempt = (ip: string, timeoutMs: number) =>
        connectSession(ip, { ...dialling, timeoutMs }).catch((error) => {
          throw signal.aborted ? error : socketError("Cannot connect to", address.text, error);
        });
      return reachAny(hosts, signal, attempt, connectMs);
    },
    async listen(address, options) {
      const { signal, security, readAhead } = options;
      const { host, port } = placeToListen(address, options);
      const library = await load(address.text);
      const [ip] = await lookupHost(address, host, signal);
      const serving = { library, text: address.text, signal, security: security ?? listenAsNobody(), readAhead };
      return serveSessions(ip!, port, { ...serving, ...(times && { times }) });
    },
  };
}

export const webtransport: Transport = webtransportTransport();
