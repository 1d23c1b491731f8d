/** What a piece costs besides its bytes: many tiny pieces must not hide from the bound. */
const PIECE_OVERHEAD = 128;

interface Entry {
  readonly piece: Uint8Array;
  next?: Entry;
}

/** Pieces between one that brings them and one that takes them. The one that brings watches `size`. */
export interface PieceQueue {
  /** The pieces in order, to be consumed once. */
  readonly output: AsyncIterable<Uint8Array>;
  /** Bytes that wait, with an allowance for each piece. */
  readonly size: number;
  push(piece: Uint8Array): void;
  /** Nothing follows: `output` ends after what waits. */
  end(): void;
  /** `output` throws `error`: after what waits, or, where `drop` is set, at once. Only the first error counts. */
  fail(error: Error, drop?: boolean): void;
}

/** @param onTaken called each time a piece was taken */
export function pieceQueue(onTaken: () => void): PieceQueue {
  let head: Entry | undefined;
  let tail: Entry | undefined;
  let size = 0;
  let ended = false;
  let failure: Error | undefined;
  let wake: (() => void) | undefined;

  async function* output(): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (head !== undefined) {
        const { piece } = head;
        head = head.next;
        if (head === undefined) tail = undefined;
        size -= piece.length + PIECE_OVERHEAD;
        onTaken();
        yield piece;
      } else if (failure !== undefined) {
        throw failure;
      } else if (ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  }

  return {
    output: output(),
    get size() {
      return size;
    },
    push(piece) {
      if (ended || failure !== undefined || piece.length === 0) return;
      const entry: Entry = { piece };
      if (tail === undefined) head = entry;
      else tail.next = entry;
      tail = entry;
      size += piece.length + PIECE_OVERHEAD;
      wake?.();
    },
    end() {
      ended = true;
      wake?.();
    },
    fail(error, drop = false) {
      // An orderly end that came first stands, unless what waits is to be dropped.
      if (failure === undefined && (!ended || drop)) failure = error;
      if (drop) {
        head = tail = undefined;
        size = 0;
      }
      wake?.();
    },
  };
}
