import { LinkError, ShrinkerError } from "../../core/errors.ts";
import type { Connection } from "../../core/transport/transport.ts";
import { within } from "../../core/within.ts";
import { socketError } from "../advice.ts";
import { coalesce } from "../coalesce.ts";
import { guard } from "../guard.ts";
import { pieceQueue } from "../queue.ts";
import { Unframer, WORD, word } from "./framing.ts";
import { StreamFailure, type StreamLink } from "./link.ts";
import { ReceiveWindow, SendWindow } from "./window.ts";

/** Most bytes of a peer that may be on their way or wait for their consumer: 100 ms of 670 Mbit/s. */
const WINDOW = 8 << 20;
/** Longest piece: what a runtime takes at once. */
const PIECE = 1 << 20;
/** Pieces up to this size are copied, so that they go even where whoever wrote them doesn't wait for that. */
const SMALL = 64 << 10;
/** How long a connection that was dropped after its end waits for the peer to have everything, and then to be told. */
export const CLOSE_MS = 1000;

/**
 * Makes a connection of a stream whose runtime or library does less than is asked of one (`framing.ts` says what).
 * @param opens whether this side opened the stream, and so has to speak first
 */
export function framedConnection(
  link: StreamLink,
  peer: string,
  { opens = false, readAhead = WINDOW }: { opens?: boolean; readAhead?: number | undefined },
): Connection {
  const broken = guard();
  const over = Promise.withResolvers<void>();
  const incoming = new ReceiveWindow(peer, readAhead);
  const outgoing = new SendWindow();
  let turn: Promise<void> = Promise.resolve();
  let ending: Promise<void> | undefined;
  let borrowed = false;
  let dropping: Promise<void> | undefined;

  const queue = pieceQueue(grant);
  const unframer = new Unframer(peer, {
    begins: (length) => incoming.spend(length),
    bytes(part) {
      queue.push(part);
      incoming.check(queue.size);
    },
    ended() {
      queue.end();
      say(WORD.HEARD);
    },
    dropped() {
      fail(explain(new StreamFailure("ECONNRESET")));
      say(WORD.HEARD);
    },
    heard: over.resolve,
    granted: (bytes) => outgoing.granted(bytes),
  });

  function grant(): void {
    const more = incoming.grant(queue.size, unframer.left);
    if (more > 0) say(WORD.GRANT + more);
  }

  function fail(error: Error, drop = false): void {
    if (drop || broken.failure === undefined) queue.fail(error, drop);
    broken.fail(error);
  }

  /** One after the other. Rejects once the connection is broken, even where the runtime never answers. */
  function send(parts: readonly Uint8Array[]): Promise<void> {
    const sent = turn.then(() => link.write(parts));
    turn = sent.catch((error) => fail(explain(error)));
    return broken.wait(sent).catch((error) => {
      throw broken.failure ?? explain(error);
    });
  }
  function say(value: number): void {
    send([word(value)]).catch(() => {});
  }

  async function writePieces(buffer: Uint8Array): Promise<void> {
    for (let at = 0; at < buffer.length; ) {
      // Not in its turn: what is said must not wait for the peer.
      const length = await broken.wait(outgoing.next(Math.min(buffer.length - at, PIECE)));
      const piece = buffer.subarray(at, at + length);
      at += length;
      if (length <= SMALL) await send([Buffer.concat([word(length), piece])]);
      else {
        borrowed = true;
        await send([word(length), piece]);
        borrowed = false;
      }
    }
  }

  function explain(error: unknown): ShrinkerError {
    return socketError("Lost the connection to", peer, error);
  }

  /** All that comes is read at once, also when it is given up here: the words have to be heard. */
  async function receive(): Promise<void> {
    try {
      for (;;) for (const part of await link.read()) unframer.take(part);
    } catch (error) {
      over.resolve();
      fail(explain(error));
      void link.close().catch(() => {});
    }
  }

  /** What was written still goes, but for a big write that is under way: its bytes are the caller's again. */
  async function drop(lingerMs: number): Promise<void> {
    if (!borrowed && lingerMs > 0) {
      if (ending === undefined) say(WORD.DROPPED);
      await within(over.promise, lingerMs);
    }
    await within(
      link.close().catch(() => {}),
      CLOSE_MS,
    );
  }

  function give(reason: Error, lingerMs: number): Promise<void> {
    if (dropping === undefined) {
      fail(reason, true);
      dropping = drop(lingerMs);
    }
    return dropping;
  }

  if (opens) say(WORD.OPENED);
  void receive();
  return {
    peer,
    duplex: true,
    ...(link.issuer !== undefined && { issuer: link.issuer }),
    input: queue.output,
    async write(buffers) {
      if (ending !== undefined) throw new ShrinkerError("bug", `Wrote to ${peer} after the end`);
      for (const buffer of coalesce(buffers)) await writePieces(buffer);
      if (broken.failure !== undefined) throw broken.failure;
    },
    end() {
      ending ??= send([word(WORD.ENDED)]);
      return ending;
    },
    destroy: (reason = new LinkError(`The connection to ${peer} was dropped`)) => give(reason, CLOSE_MS),
    reset: (reason = new LinkError(`The connection to ${peer} was broken off`)) => give(reason, 0),
  };
}
