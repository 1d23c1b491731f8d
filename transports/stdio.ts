import { Writable } from "node:stream";
import { abortReason } from "../core/errors.ts";
import type { Listener, ListenOptions } from "../core/transport/transport.ts";
import { onePeer } from "./accept.ts";
import { writeAll } from "./fd.ts";
import { socketError } from "./socket.ts";
import { closeStdout, reserveStdout, STDOUT } from "./stdout.ts";
import { streamConnection } from "./stream.ts";

const PEER = "stdio:";

/** Stdout as a stream that never blocks the process, and that can be closed. */
function stdoutStream(): Writable {
  let open = true;
  const close = () => {
    if (open) closeStdout();
    open = false;
  };
  return new Writable({
    write(buffer: Buffer, _encoding, done) {
      writeAll(STDOUT, [buffer]).then(() => done(), done);
    },
    final(done) {
      close();
      done();
    },
    destroy(error, done) {
      close();
      done(error);
    },
  });
}

/**
 * The other end of `exec:`: stdin and stdout as the one connection of this process (`receive --stdio`). From now on
 * nothing else reaches stdout. The signal ends the listener, not the connection.
 */
export async function listenStdio({ signal }: ListenOptions): Promise<Listener> {
  if (signal.aborted) throw abortReason(signal);
  reserveStdout();
  const connection = streamConnection({
    peer: PEER,
    readable: process.stdin,
    writable: stdoutStream(),
    explain: (error) => socketError("Lost the connection at", PEER, error),
    // A read of stdin that is under way can't be called off everywhere, and this process is about to end.
    dropped: async () => {},
  });
  return onePeer(PEER, connection, signal);
}
