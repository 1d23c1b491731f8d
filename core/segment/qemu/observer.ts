/** Where a stream stands: before RAM, in it, in the devices after it (not delimited), past its end, or beyond understanding. */
export type QemuState = "setup" | "ram" | "devices" | "ended" | "lost";

export interface QemuSection {
  /** `part` and `end` are given without a name: they refer to the `start` of the same id. */
  readonly kind: "start" | "part" | "end" | "full";
  readonly id: number;
  readonly name?: string;
  readonly instance?: number;
  readonly version?: number;
}

/**
 * Told what a stream holds, as it is parsed; not of each page. Device sections are not seen beyond the first one. Names are
 * printable ASCII: other bytes are escaped.
 */
export interface QemuObserver {
  /** The machine's type, such as `pc-i440fx-10.0`. */
  machine?(type: string): void;
  /** A capability that both sides must share, such as `x-ignore-shared`. */
  capability?(name: string): void;
  /** @param length bytes of data that follow; a package's content is included */
  command?(command: number, length: number): void;
  section?(section: QemuSection): void;
  /** @param length bytes */
  ramBlock?(name: string, length: number): void;
  /** From here on everything is passed through (a stream that just stops, or ends without a description, is not reported). `offset` counts bytes from the stream's start; `reason` is for `lost`. */
  end?(state: QemuState, offset: number, reason: string | undefined): void;
}

export interface QemuBlockStatistics {
  readonly name: string;
  /** Bytes, as the stream's block list states; 0 where it does not. */
  readonly length: number;
  /** Records that carry a whole page, each time that it was sent. */
  readonly pages: number;
  /** Records of 9 bytes that stand for a page of zeros. */
  readonly zeros: number;
}

export interface QemuStatistics {
  readonly state: QemuState;
  /** What was not understood, and from which byte of the stream on everything is passed through; only when `lost`. */
  readonly lost?: { readonly reason: string; readonly offset: number };
  readonly blocks: readonly QemuBlockStatistics[];
  /** Sums over all blocks. */
  readonly pages: number;
  readonly zeroRecords: number;
  /** Records that QEMU encoded itself, so that their contents are hidden. */
  readonly xbzrle: number;
  readonly compressed: number;
}
