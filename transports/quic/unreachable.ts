import dgram from "node:dgram";
import { isIPv6 } from "node:net";

/** Too short to be a packet of QUIC (RFC 9000, 14.1): whoever listens drops it. */
const NOTHING = Buffer.of(0);

/**
 * Resolves where the host says that nothing has that port (ICMP), which the runtimes' QUIC doesn't hear, so that a dial need
 * not wait for its time to be over. Never resolves otherwise, and never rejects: not every runtime hears of it, nor do all
 * hosts say it.
 * @param signal ends the listening
 */
export function unreachable(ip: string, port: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return;
    const socket = dgram.createSocket(isIPv6(ip) ? "udp6" : "udp4");
    const close = () => {
      signal.removeEventListener("abort", close);
      try {
        socket.close();
      } catch {
        // It was never open.
      }
    };
    signal.addEventListener("abort", close);
    socket.on("error", (error: NodeJS.ErrnoException) => {
      close();
      if (error.code === "ECONNREFUSED") resolve();
    });
    socket.unref();
    socket.connect(port, ip, () => {
      // Whatever comes of it comes as an error.
      if (!signal.aborted) socket.send(NOTHING, () => {});
    });
  });
}
