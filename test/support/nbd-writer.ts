/** Writes what an NBD client sends, and tells which pages of a disk are in it. */

export interface NbdPage {
  /** Where in the conversation its 4096 bytes are. */
  readonly offset: number;
  /** Its number on the disk. */
  readonly page: number;
  readonly zero: boolean;
}

export interface NbdRequest {
  readonly command: number;
  readonly flags?: number;
  /** On the disk. */
  readonly offset?: bigint;
  /** That of `data` unless it is given. */
  readonly length?: bigint;
  readonly data?: Uint8Array;
  /** With an extended header. */
  readonly extended?: boolean;
}

export const PAYLOAD_LENGTH = 1 << 5;
export const NBD = { READ: 0, WRITE: 1, DISCONNECT: 2, FLUSH: 3, WRITE_ZEROES: 6 } as const;
const PAGE = 4096;

export function createNbdWriter() {
  const parts: Buffer[] = [];
  const pages: NbdPage[] = [];
  let length = 0;
  let cookie = 1n;
  const add = (...added: Uint8Array[]) => {
    for (const part of added) {
      parts.push(Buffer.from(part));
      length += part.length;
    }
    return writer;
  };

  const writer = {
    bytes: (bytes: Uint8Array | string) => add(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes),
    flags: (flags = 3) => add(Buffer.from([0, 0, 0, flags])),
    option(option: number, data: Uint8Array = Buffer.alloc(0), stated = data.length) {
      const head = Buffer.from("IHAVEOPT\0\0\0\0\0\0\0\0", "latin1");
      head.writeUInt32BE(option, 8);
      head.writeUInt32BE(stated, 12);
      return add(head, data);
    },
    request({ command, flags = 0, offset = 0n, extended = false, data = Buffer.alloc(0), ...more }: NbdRequest) {
      const head = Buffer.alloc(extended ? 32 : 28);
      head.writeUInt32BE(extended ? 0x21e41c71 : 0x25609513, 0);
      head.writeUInt16BE(flags, 4);
      head.writeUInt16BE(command, 6);
      head.writeBigUInt64BE(cookie++, 8);
      head.writeBigUInt64BE(offset, 16);
      const stated = more.length ?? BigInt(data.length);
      if (extended) head.writeBigUInt64BE(stated, 24);
      else head.writeUInt32BE(Number(stated), 24);
      return add(head, data);
    },
    /** A write that the protocol allows. */
    write(offset: bigint, data: Uint8Array, extended = false) {
      const begin = length + (extended ? 32 : 28);
      const lead = Number((BigInt(PAGE) - (offset % BigInt(PAGE))) % BigInt(PAGE));
      for (let at = lead; at + PAGE <= data.length; at += PAGE) {
        const page = Number((offset + BigInt(at)) / BigInt(PAGE));
        pages.push({ offset: begin + at, page, zero: data.subarray(at, at + PAGE).every((byte) => byte === 0) });
      }
      return writer.request({ command: NBD.WRITE, flags: extended ? PAYLOAD_LENGTH : 0, offset, data, extended });
    },
    /** Up to the first request, as QEMU does it. */
    negotiate: () =>
      writer.flags().option(8).option(10, Buffer.from("context")).option(7, Buffer.from("\0\0\0\x04disk\0\0")),
    pages: () => pages,
    take: () => Buffer.concat(parts),
  };
  return writer;
}
