import { ProtocolError } from "../errors.ts";

const TWO_32 = 2 ** 32;

export function putU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % TWO_32, at);
  bytes.writeUInt32LE(Math.floor(value / TWO_32), at + 4);
}

/** Throws a `ProtocolError` where the value is 2^53 or more. */
export function getU64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * TWO_32;
  if (!Number.isSafeInteger(value)) throw new ProtocolError(`A 64-bit number is out of range at byte ${at}`);
  return value;
}

/** The same bytes as a Buffer, not copied. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Bytes that came from outside, made fit to print: at most `most` of them, without control characters. */
export function printable(bytes: Uint8Array, most = 60): string {
  const text = Buffer.from(bytes.subarray(0, most)).toString("latin1");
  return text.replace(/[\x00-\x1f\x7f-\x9f]+/g, " ").trim();
}
