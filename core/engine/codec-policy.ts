import { CODEC } from "../wire/numbers.ts";

/** Chooses the codec of each batch, and is told how it went. */
export interface CodecPolicy {
  /** False where nothing is ever compressed, so that XORs and the window need not be cared for. */
  readonly compresses: boolean;
  /** Whether pages go through the window at the moment, so that noise is worth to be kept out of it. */
  readonly fillsWindow: boolean;
  /** Whether an XOR with a page's last version would be compressed at the moment, so that last versions are worth to be kept. */
  readonly wantsXors: boolean;
  /** The codec of the next batch, of `CODEC`. */
  next(): number;
  /** A batch of `bytes` new bytes was encoded to `wire` bytes in `ms` milliseconds. */
  encoded?(codec: number, bytes: number, wire: number, ms: number): void;
  /**
   * The link took `ms` milliseconds to take `wire` bytes.
   * @param spare bytes a millisecond that it has been seen to take while it was not what everything waits for; 0 where it is
   */
  written?(wire: number, ms: number, spare: number): void;
}

export const CODEC_NAMES = ["auto", "zstd", "lz4", "none"] as const;
export type CodecName = (typeof CODEC_NAMES)[number];

const FIXED: Record<Exclude<CodecName, "auto">, number> = { zstd: CODEC.ZSTD, lz4: CODEC.LZ4, none: CODEC.NONE };

/** Always the same codec. */
export function fixedCodec(name: Exclude<CodecName, "auto">): CodecPolicy {
  const codec = FIXED[name];
  const compresses = codec !== CODEC.NONE;
  return { compresses, fillsWindow: compresses, wantsXors: compresses, next: () => codec };
}
