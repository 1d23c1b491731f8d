import { abortReason, LinkError } from "../core/errors.ts";
import type { Connection, Listener, ListenOptions } from "../core/transport/transport.ts";
import { onePeer } from "./accept.ts";
import { bundleReader } from "./bundle-reader.ts";
import { bundleWriter } from "./bundle-writer.ts";
import { PIPE_PIECE } from "./fd.ts";
import { openTarget } from "./target.ts";

const PEER = "stdio:";
const STDIN = 0;

/**
 * The other end of `exec:`: stdin and stdout as the one connection of this process (`receive --stdio`). From now on
 * nothing else reaches stdout, and nothing else may read stdin. The signal ends the listener, not the connection.
 *
 * Both are used as descriptors: Bun 1.4's `process.stdin` at times never says that it has ended once it was paused.
 */
export async function listenStdio({ signal }: ListenOptions): Promise<Listener> {
  if (signal.aborted) throw abortReason(signal);
  const reader = bundleReader("stdin", PEER, STDIN, PIPE_PIECE, () => {});
  const writer = bundleWriter("stdout", PEER, await openTarget("-", false, signal));
  const connection: Connection = {
    peer: PEER,
    duplex: true,
    input: reader.input,
    write: writer.write,
    end: writer.end,
    async destroy(reason = new LinkError(`The connection at ${PEER} was dropped`)) {
      // A read of stdin can't be called off: it isn't waited for, and ends with the process.
      void reader.destroy(reason);
      await writer.destroy(reason);
    },
  };
  return onePeer(PEER, connection, signal);
}
