import * as F from "../../core/segment/qemu/format.ts";

/** Writes the parts of a migration stream one after another, for streams made by hand. `take` gives what was written since. */
export interface QemuWriter {
  /** Magic and version. */
  header(): QemuWriter;
  machine(type: string): QemuWriter;
  /** A part of the configuration, without the prefix `configuration/`. */
  subsection(name: string, data: Uint8Array): QemuWriter;
  capabilities(...names: string[]): QemuWriter;
  command(command: number, data?: Uint8Array): QemuWriter;
  packaged(content: Uint8Array): QemuWriter;
  /** The head of a START or FULL section. */
  named(type: number, id: number, name: string, version: number): QemuWriter;
  /** The head of a PART or END section. */
  continued(type: number, id: number): QemuWriter;
  footer(id: number): QemuWriter;
  blockList(blocks: readonly { readonly name: string; readonly length: number }[]): QemuWriter;
  /** Address and flags, then the name of the block, unless CONTINUE is among the flags or no name is given. */
  record(address: number, flags: number, block?: string): QemuWriter;
  raw(...bytes: number[]): QemuWriter;
  bytes(bytes: Uint8Array): QemuWriter;
  /** A copy of what was written since the last call. */
  take(): Buffer;
}

export function createQemuWriter(): QemuWriter {
  let buffer = Buffer.alloc(1 << 16);
  let length = 0;

  /** Makes room for `size` bytes and returns where they go. */
  function reserve(size: number): number {
    if (length + size > buffer.length) {
      buffer = Buffer.concat([buffer.subarray(0, length)], Math.max(2 * buffer.length, length + size));
    }
    length += size;
    return length - size;
  }
  const be16 = (value: number) => buffer.writeUInt16BE(value, reserve(2));
  const be32 = (value: number) => buffer.writeUInt32BE(value, reserve(4));
  function be64(value: number, flags = 0): void {
    be32(Math.floor(value / 2 ** 32));
    be32((value % 2 ** 32) + flags);
  }
  function counted(name: string): void {
    writer.raw(name.length).bytes(Buffer.from(name, "latin1"));
  }

  const writer: QemuWriter = {
    header() {
      be32(F.MAGIC);
      be32(F.VERSION);
      return writer;
    },
    machine(type) {
      writer.raw(F.CONFIGURATION);
      be32(type.length);
      return writer.bytes(Buffer.from(type, "latin1"));
    },
    subsection(name, data) {
      writer.raw(F.SUBSECTION);
      counted(`configuration/${name}`);
      be32(1);
      return writer.bytes(data);
    },
    capabilities(...names) {
      writer.subsection("capabilities", Buffer.of(0, 0, 0, names.length));
      for (const name of names) counted(name);
      return writer;
    },
    command(command, data = new Uint8Array()) {
      writer.raw(F.COMMAND);
      be16(command);
      be16(data.length);
      return writer.bytes(data);
    },
    packaged(content) {
      writer.raw(F.COMMAND);
      be16(F.COMMAND_PACKAGED);
      be16(4);
      be32(content.length);
      return writer.bytes(content);
    },
    named(type, id, name, version) {
      writer.raw(type);
      be32(id);
      counted(name);
      be32(0);
      be32(version);
      return writer;
    },
    continued(type, id) {
      writer.raw(type);
      be32(id);
      return writer;
    },
    footer: (id) => writer.continued(F.SECTION_FOOTER, id),
    blockList(blocks) {
      be64(
        blocks.reduce((sum, block) => sum + block.length, 0),
        F.RAM_MEM_SIZE,
      );
      for (const block of blocks) {
        counted(block.name);
        be64(block.length);
      }
      return writer;
    },
    record(address, flags, block) {
      be64(address, flags);
      if (block !== undefined && (flags & F.RAM_CONTINUE) === 0) counted(block);
      return writer;
    },
    raw(...bytes) {
      return writer.bytes(Uint8Array.from(bytes));
    },
    bytes(bytes) {
      const at = reserve(bytes.length);
      buffer.set(bytes, at);
      return writer;
    },
    take() {
      const taken = Buffer.from(buffer.subarray(0, length));
      length = 0;
      return taken;
    },
  };
  return writer;
}
