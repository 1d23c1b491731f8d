import { fileError, LinkError, ShrinkerError } from "../core/errors.ts";
import type { Connection } from "../core/transport/transport.ts";
import { within } from "../core/within.ts";
import { readPiece, STUCK_MS } from "./fd.ts";
import { guard } from "./guard.ts";

/**
 * What a bundle is read through. One piece is read ahead while the consumer works on the last.
 * @param name the file, for messages
 * @param pieceBytes size of the pieces; those of a FIFO may be shorter
 */
export function bundleReader(
  name: string,
  peer: string,
  fd: number,
  pieceBytes: number,
  close: () => void,
): Connection {
  let reading: Promise<Uint8Array> | undefined;
  let dropping: Promise<unknown> | undefined;
  const work = guard();

  function read(): Promise<Uint8Array> {
    reading = readPiece(fd, pieceBytes).catch((error) => {
      throw fileError("Cannot read", name, error);
    });
    // It may be read ahead for nobody.
    reading.catch(() => {});
    return reading;
  }
  async function* pieces(): AsyncGenerator<Uint8Array> {
    if (work.failure) throw work.failure;
    let next = read();
    for (;;) {
      const piece = await work.wait(next);
      if (piece.length === 0) return;
      next = read();
      yield piece;
    }
  }

  return {
    peer,
    duplex: false,
    input: pieces(),
    async write() {
      throw new ShrinkerError("bug", `Wrote to ${peer}, which is only read`);
    },
    async end() {},
    async destroy(reason = new LinkError(`Reading "${name}" was given up`)) {
      work.fail(reason);
      // The descriptor is closed only once nothing uses it, or another file would take its number.
      dropping ??= Promise.resolve(reading).then(close, close);
      await within(dropping, STUCK_MS);
    },
  };
}
