/**
 * One direction of one column's compression. Calls don't overlap and are made in the order of the batches: a codec may
 * keep history, so what one end encodes the other end decodes, each piece once and in order.
 */
export interface ColumnEncoder {
  /** Encodes `bytes`, which must not change until the promise resolves. Gives pieces that the caller owns. */
  encode(bytes: Uint8Array): Promise<Uint8Array[]>;
  close(): void;
}

export interface ColumnDecoder {
  /**
   * Decodes one piece to exactly `target.length` bytes. Rejects with an `IntegrityError` where it holds fewer or more, or
   * is damaged; never writes beyond `target`, and buffers a bounded amount whatever the piece claims.
   */
  decode(bytes: Uint8Array, target: Uint8Array): Promise<void>;
  close(): void;
}
