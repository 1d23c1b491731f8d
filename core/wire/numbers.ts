/**
 * Every number that stands on the wire and in bundles. They are never reused or renumbered; docs/wire-format.md
 * describes what each means. Integers are little-endian.
 */

/** First bytes of each direction: a byte that no text has, a name, and line ends that a text-mode copy would change. */
export const MAGIC = Uint8Array.of(0x89, 0x53, 0x48, 0x52, 0x4b, 0x0d, 0x0a, 0x1a);
export const PROTOCOL_VERSION = 1;
/** Magic, u16 version, u16 zero, u32 CRC-32 of the 12 bytes before. */
export const PREFACE_BYTES = 16;

/** u32 payload length, u8 type, u8 zero, u16 zero, u32 sequence number, u32 CRC-32 of payload, u32 CRC-32 of the 16 bytes before. */
export const FRAME_HEADER_BYTES = 20;
/** No frame is longer; a batch at its limits is about half of it. */
export const MAX_PAYLOAD = 8 << 20;
/** No control frame (all but BATCH, CONTENT and SUMMARY) is longer. */
export const MAX_CONTROL = 64 << 10;

export const FRAME = {
  HELLO: 1,
  WELCOME: 2,
  /** The session failed; why. */
  ABORT: 3,
  /** The source has sent all; the destination answers with the same when all has landed. */
  DONE: 4,
  OPEN: 5,
  CLOSE: 6,
  /** One stream failed; why. */
  RESET: 7,
  /** A stream's file has taken its name. */
  LANDED: 8,
  /** Asks for a summary of what the destination holds. */
  SUMMARIZE: 9,
  /** Asks to go on with a session over this connection; not numbered. */
  RESUME: 10,
  /** The session goes on; not numbered. */
  RESUMED: 11,
  /** A word between the machines' movers at both ends; the engine only carries it. */
  TELL: 12,
  BATCH: 16,
  CREDIT: 17,
  ACK: 18,
  /** A sign of life; not answered. */
  PING: 19,
  WANT: 21,
  CONTENT: 22,
  RESOLVED: 23,
  /** A piece of the summary. */
  SUMMARY: 24,
  /** Who has signed the recording that ends here. */
  SIGNATURE: 25,
} as const;

export const OP = {
  LITERAL: 0,
  ZERO: 1,
  /** Contents of the column CONTENTS. */
  NEW: 2,
  /** Contents of the column STORED. */
  STORED: 3,
  /** Contents of the log, by consecutive numbers. */
  REF: 4,
  /** One content of the log, repeated. */
  SAME: 5,
  /** Contents that the destination holds, by digest. */
  KNOWN: 6,
  /** A content of the log, XORed with a page of the column DELTAS. */
  DELTA: 7,
  /** Contents that the destination holds, by their numbers in logs of earlier sessions. */
  PAST: 8,
} as const;

export const COLUMN = {
  OPS: 0,
  ARGUMENTS: 1,
  LITERALS: 2,
  DELTAS: 3,
  CONTENTS: 4,
  STORED: 5,
  DIGESTS: 6,
} as const;
export const COLUMNS = 7;

export const CODEC = { NONE: 0, ZSTD: 1, LZ4: 2 } as const;

/** Records of the running digest. */
export const SEGMENT = { LITERAL: 0, ZERO: 1, CHUNK: 2 } as const;

/** A batch takes at most this many content numbers. */
export const MAX_BATCH_CONTENTS = 256;
/** A batch stands for at most this many bytes of literals and chunks. */
export const MAX_BATCH_PLAIN = 2 << 20;
/** A batch has at most this many segments: literals, zeros and chunks, each chunk of a run counted. */
export const MAX_BATCH_SEGMENTS = 4096;
/** A batch's cost in credit: this, its plain bytes, and so much for each segment: what it takes while it waits. */
export const BATCH_COST = 4096;
export const SEGMENT_COST = 64;
/** A source has at most this many streams open at once. */
export const MAX_STREAMS = 128;
/** And at most this many in a session that are no connection: what became of each is kept until its end. */
export const MAX_FILES = 16_384;
/** Streams that the destination opens are numbered from here on, those of the source below it. */
export const RETURN_STREAMS = 2 ** 31;

/** Windows that may be negotiated for contents: 1 MiB to 128 MiB. */
export const MIN_WINDOW_LOG = 20;
export const MAX_WINDOW_LOG = 27;
/** Window of the columns DELTAS, LITERALS, OPS and ARGUMENTS. */
export const SMALL_WINDOW_LOG = 20;

/** What a source has to know to go on with a session over another connection. */
export const SECRET_BYTES = 32;
/** Frames, and payload bytes, that an end of a session that can be resumed leaves unacknowledged at most. */
export const ACK_FRAMES = 64;
export const ACK_BYTES = 256 << 10;

/** An ECDSA signature on P-256: r and s, 32 bytes each. */
export const SIGNATURE_BYTES = 64;
/** Recipients that a signed recording may name. */
export const MAX_NAMED_RECIPIENTS = 64;

/** Logs of earlier sessions that a destination may name. */
export const MAX_PAST_LOGS = 64;
/** A summary is not longer, and comes in pieces of this size. */
export const MAX_SUMMARY = 32 << 20;
export const SUMMARY_PIECE = 1 << 20;
