import { existsSync, lstatSync, unlinkSync } from "node:fs";
import net from "node:net";
import { dirname } from "node:path";
import { ShrinkerError } from "../../errors.ts";
import { type ChannelAddress, describeAddress, explain } from "./channel.ts";

/** `sun_path` of Linux has 108 bytes, the last of them zero. */
const MAX_PATH_BYTES = 107;

export interface SocketServer {
  /** Where it listens, with the port filled in. */
  readonly address: ChannelAddress;
  /** Takes no more peers, and removes its socket. Never rejects. */
  close(): Promise<void>;
}

/**
 * Listens; a socket of an earlier process at that path is replaced, as QEMU does. The new one belongs to its user alone.
 * Rejects with `usage`, `exists`, `input` or `link`.
 */
export function listenAt(address: ChannelAddress, accept: (socket: net.Socket) => void): Promise<SocketServer> {
  const where = describeAddress(address);
  if (address.type === "unix") makeWay(address.path);
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: false }, accept);
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
  return new Promise((resolve, reject) => {
    server.once("error", (error) =>
      reject(new ShrinkerError("link", `Cannot listen at ${where}: ${explain(error)}`, { cause: error })),
    );
    server.once("listening", () => {
      const bound = server.address();
      const port = typeof bound === "object" && bound !== null ? bound.port : 0;
      resolve({ address: address.type === "unix" ? address : { ...address, port }, close });
    });
    // The runtimes bind within this call, so nothing else is created under this mask by this thread.
    const mask = process.umask(0o177);
    try {
      if (address.type === "unix") server.listen(address.path);
      else server.listen(address.port, address.host);
    } finally {
      process.umask(mask);
    }
  });
}

function makeWay(path: string): void {
  const length = Buffer.byteLength(path);
  if (path === "" || path.includes("\0") || length > MAX_PATH_BYTES)
    throw new ShrinkerError(
      "usage",
      `Cannot listen at "${path}": a socket's path may have 1 to ${MAX_PATH_BYTES} bytes, this one has ${length}`,
    );
  if (!existsSync(dirname(path)))
    throw new ShrinkerError(
      "input",
      `Cannot listen at ${path}: there is no folder "${dirname(path)}"; create it first`,
    );
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw new ShrinkerError("exists", `Cannot listen at ${path}: a file that is no socket is there; remove it`);
  unlinkSync(path);
}
