/** A sequence of bytes and holes that is read once, in order. */
export interface Reader {
  /**
   * Length of the hole at the position, which is thereby skipped; 0 where there are bytes, or the end. A promise where
   * another process has to be asked.
   */
  hole(): number | Promise<number>;
  /** Reads the next bytes to the start of `buffer`; resolves with how many, at least 1, or 0 at the end. */
  read(buffer: Uint8Array): Promise<number>;
  /** All was read: rejects where it can't have been right. */
  finish(): Promise<void>;
  /** Ends a pending read, where it could wait for ever; called before `close`, which comes after the read. */
  interrupt?(): void;
  /** Never rejects. */
  close(): Promise<void>;
}
