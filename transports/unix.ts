import { existsSync, lstatSync, unlinkSync } from "node:fs";
import type net from "node:net";
import { dirname } from "node:path";
import { LinkError, ShrinkerError, systemCode } from "../core/errors.ts";
import type { Address, Transport } from "../core/transport/transport.ts";
import { connectSocket, serveSockets } from "./socket.ts";

/** `sun_path` of Linux has 108 bytes, the last of them zero. Longer names would be cut short without a word. */
const MAX_PATH_BYTES = 107;

function socketPath({ rest, text }: Address): string {
  const length = Buffer.byteLength(rest);
  if (rest === "" || rest.includes("\0")) throw new ShrinkerError("usage", `Cannot use "${text}": expected unix:PATH`);
  if (length > MAX_PATH_BYTES) {
    throw new ShrinkerError(
      "usage",
      `Cannot use ${text}: a socket's path may have ${MAX_PATH_BYTES} bytes, this one has ${length}; choose a shorter one`,
    );
  }
  return rest;
}

/** Device and inode of what is at a path, or `undefined` where nothing is. */
function identity(path: string): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat && `${stat.dev}:${stat.ino}`;
}

/** Removes the socket of a listener that died. Rejects where one lives, or where it is another sort of file. */
async function removeStale(path: string, address: Address, signal: AbortSignal): Promise<void> {
  const folder = dirname(path);
  if (!existsSync(folder))
    throw new ShrinkerError(
      "input",
      `Cannot listen at ${address.text}: there is no folder "${folder}"; create it first`,
    );
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw new ShrinkerError("exists", `Cannot listen at ${address.text}: a file that is no socket is there; remove it`);
  const before = identity(path);
  const alive = await connectSocket({ path }, address.text, { signal }).then(
    async (connection) => {
      await connection.destroy();
      return true;
    },
    (error: Error) => {
      const code = systemCode(error.cause);
      if (code === "ECONNREFUSED" || code === "ENOENT") return false;
      throw error;
    },
  );
  if (alive)
    throw new LinkError(
      `Cannot listen at ${address.text}: another process listens there; end it, or choose another path`,
    );
  // Another one may have replaced it meanwhile: that one stays, and the bind then fails.
  if (identity(path) === before) unlinkSync(path);
}

/** `unix:PATH`. The socket belongs to the user alone (mode 0600), from its first moment on. */
export const unix: Transport = {
  scheme: "unix",
  resumable: true,
  authenticates: false,
  async dial(address, { signal }) {
    return connectSocket({ path: socketPath(address) }, address.text, { signal });
  },
  async listen(address, { signal, readAhead }) {
    const path = socketPath(address);
    await removeStale(path, address, signal);
    let own: string | undefined;
    return serveSockets({
      signal,
      text: address.text,
      readAhead,
      bind(server: net.Server) {
        // The runtimes bind within this call, so nothing else is created under this mask by this thread.
        const mask = process.umask(0o177);
        try {
          server.listen(path);
        } finally {
          process.umask(mask);
        }
        own = identity(path);
      },
      address: () => `unix:${path}`,
      peer: () => address.text,
      closed() {
        // The runtimes remove it too, some of them later: never remove another listener's.
        if (own !== undefined && identity(path) === own) unlinkSync(path);
      },
    });
  },
};
