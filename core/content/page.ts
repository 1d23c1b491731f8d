/** Bytes in a chunk: a page of memory, or a block of a disk. Fixed by the wire and store formats. */
export const PAGE_SIZE = 4096;

/** 32-bit words in a chunk. */
export const PAGE_WORDS = PAGE_SIZE / 4;

/** Bytes in a digest (SHA-256). */
export const DIGEST_SIZE = 32;

/** 32-bit words in a digest. */
export const DIGEST_WORDS = DIGEST_SIZE / 4;
