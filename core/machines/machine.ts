/**
 * A machine is what moves: for the engine, named streams of bytes at the source and a place for them at the
 * destination. Files are machines (image/); live guests and fakes come as further ones.
 */

/** What the destination has to know of a stream before its first byte. */
export interface StreamInfo {
  /** A plain name: no `/`, no control characters, at most 255 bytes. */
  readonly name: string;
  /** The segmenter's name: `raw`, `qemu`, `elf`, `nbd` or `bytes`. */
  readonly format: string;
  /** Plain bytes, where they are known beforehand. */
  readonly size?: number;
  /** Permission bits, for a file. */
  readonly mode?: number;
  /** Modification time in milliseconds since 1970, for a file. */
  readonly mtime?: number;
  /** Of one direction of a connection: the connection's number in its session. */
  readonly connection?: number;
  /** What the connection is to be made to, in the source's direction. */
  readonly service?: string;
}

/** A piece of a stream: bytes, or a hole that nobody had to read. */
export type Piece = BytePiece | HolePiece;

/**
 * Bytes, and with them everything in their `ArrayBuffer`: whoever takes the piece owns it until `release`, and may even
 * transfer it to another thread. It is therefore not shared with other pieces (a slice of a pooled `Buffer` is).
 */
export interface BytePiece {
  readonly bytes: Uint8Array;
  /**
   * Gives the buffer back, to be called once; where it is missing, the buffer is dropped.
   * @param buffer where the piece's own was transferred: a view of the whole of another `ArrayBuffer` of its size
   */
  release?(buffer?: Uint8Array): void;
}

export interface HolePiece {
  /** Length of the hole; > 0. */
  readonly zeros: number;
}

/** A machine's stream at the source. */
export interface StreamSource {
  readonly info: StreamInfo;
  /** The bytes in order, to be consumed once; ends early with the signal's reason. */
  pieces(signal: AbortSignal): AsyncIterable<Piece>;
  /** SHA-256 of the plain bytes, once all pieces were taken and released. Files have one. */
  plainDigest?(): Promise<Uint8Array>;
  /** Frees what was opened for the pieces, where they were not asked for; may be called at any time and again. Never rejects. */
  close?(): Promise<void>;
}

/** Where a stream's bytes go at the destination. Calls don't overlap. */
export interface StreamSink {
  /** Takes a piece; resolves when the sink can take more. The bytes may change once the piece is released, which may be later. */
  write(piece: BytePiece): Promise<void>;
  /** Takes `length` zero bytes. */
  zeros(length: number): Promise<void>;
  /** All bytes were given and their digest is right: makes them last (synced), not yet visible under the final name. */
  finish(): Promise<void>;
  /** SHA-256 of the plain bytes, after `finish`. Files have one. */
  plainDigest?(): Promise<Uint8Array>;
  /** Shows the finished stream under its name. Rejects with `exists` where the name was taken meanwhile. */
  commit(): Promise<void>;
  /** Leaves nothing behind. Never rejects; does nothing after `commit`. */
  abort(): Promise<void>;
}

/** The destination's side: opens a place for each stream that arrives. */
export interface StreamTarget {
  /**
   * Rejects with `refused` (a bad name), `exists`, `space` or `input`.
   * @param failed aborted, with why, when the stream has failed: what waits for somebody else then ends early
   */
  open(info: StreamInfo, failed?: AbortSignal): Promise<StreamSink>;
}
