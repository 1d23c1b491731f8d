/** Bytes that arrive in pieces, for readers of one direction. */
import fc from "fast-check";

/** Gives `bytes` in pieces of these lengths, the last again and again; a length of 0 is an empty piece. */
export async function* pieces(bytes: Uint8Array, lengths: readonly number[] = [bytes.length]) {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    // The last length may be 0: then the rest comes at once.
    const length = lengths[i] ?? (lengths.at(-1) || bytes.length);
    // A copy, as a socket gives: what is read may not rely on the bytes around it.
    yield new Uint8Array(bytes.subarray(at, at + length));
    at += length;
  }
}

/** Lengths of pieces: mostly short, so that every field of a header is cut somewhere. */
export const lengths = fc.array(fc.oneof(fc.nat(3), fc.nat(40), fc.nat(5000)), { minLength: 1, maxLength: 12 });
