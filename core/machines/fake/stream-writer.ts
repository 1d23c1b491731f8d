import { PAGE_SIZE } from "../../content/page.ts";
import * as F from "../../segment/qemu/format.ts";
import type { GuestBlock, GuestMemory } from "./memory.ts";
import { STATE_VERSION } from "./state.ts";

/** Commands by which a source opens the way back. */
export const COMMAND_OPEN_RETURN_PATH = 1;
export const COMMAND_PING = 2;

/** The ids of the sections, as QEMU numbers what it migrates. */
export const RAM_SECTION = 2;
export const STATE_SECTION = 3;
export const STATE_NAME = "fake";

/** The description of the devices, as QEMU gives it. */
export function describeDevices(): Buffer {
  const fields = [
    { name: "length", type: "uint32", size: 4 },
    { name: "state", type: "buffer" },
  ];
  const device = { name: STATE_NAME, instance_id: 0, vmsd_name: STATE_NAME, version: 1, fields };
  return Buffer.from(JSON.stringify({ page_size: PAGE_SIZE, devices: [device] }));
}

const PIECE = 1 << 16;
/** The longest that is written at once: a page with its block's name. */
const LONGEST = PAGE_SIZE + F.RECORD_HEADER + 256;

/** Encodes a migration stream into pieces of up to 64 KiB, which are the caller's. */
export class StreamWriter {
  readonly #memory: GuestMemory;
  #piece: Buffer = Buffer.allocUnsafeSlow(PIECE);
  #length = 0;
  #lastBlock: GuestBlock | undefined;
  /** All bytes so far. */
  transferred = 0;
  normal = 0;
  zeros = 0;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** Whether the piece has no room for another page. */
  get full(): boolean {
    return PIECE - this.#length < LONGEST;
  }

  get empty(): boolean {
    return this.#length === 0;
  }

  /** What was written since the last call. */
  take(): Buffer {
    const piece = this.#piece.subarray(0, this.#length);
    this.#piece = Buffer.allocUnsafeSlow(PIECE);
    this.#length = 0;
    return piece;
  }

  /** Magic, version and the machine's type. */
  begin(machine: string): void {
    this.#be32(F.MAGIC);
    this.#be32(F.VERSION);
    this.#byte(F.CONFIGURATION);
    this.#be32(machine.length);
    this.#bytes(Buffer.from(machine, "latin1"));
  }

  command(command: number, data: Uint8Array = new Uint8Array()): void {
    this.#byte(F.COMMAND);
    this.#be16(command);
    this.#be16(data.length);
    this.#bytes(data);
  }

  /** The section that announces RAM and its blocks. */
  blockList(): void {
    const { blocks, pages } = this.#memory;
    this.#byte(F.SECTION_START);
    this.#be32(RAM_SECTION);
    this.#name("ram");
    this.#be32(0);
    this.#be32(F.RAM_VERSION);
    this.#be64(pages * PAGE_SIZE, F.RAM_MEM_SIZE);
    for (const block of blocks) {
      this.#name(block.name);
      this.#be64(block.pages * PAGE_SIZE, 0);
    }
    this.endRam();
  }

  /** Begins a section of pages: one of many, or the last. */
  beginRam(type: typeof F.SECTION_PART | typeof F.SECTION_END): void {
    this.#byte(type);
    this.#be32(RAM_SECTION);
  }

  endRam(): void {
    this.#be64(0, F.RAM_EOS);
    this.#footer(RAM_SECTION);
  }

  /**
   * Writes a page as it is now.
   * @param flip changes a bit of it on its way
   */
  page(page: number, flip = false): void {
    const block = this.#blockOf(page);
    const same = block === this.#lastBlock;
    const header = F.RECORD_HEADER + (same ? 0 : 1 + block.name.length);
    const filled = this.#memory.read(page, this.#piece, this.#length + header);
    const flags = (filled ? F.RAM_PAGE : F.RAM_ZERO) | (same ? F.RAM_CONTINUE : 0);
    this.#be64((page - block.firstPage) * PAGE_SIZE, flags);
    if (!same) this.#name(block.name);
    this.#lastBlock = block;
    if (filled) {
      if (flip) this.#piece[this.#length + 100]! ^= 1;
      this.#advance(PAGE_SIZE);
      this.normal++;
    } else {
      this.#byte(0);
      this.zeros++;
    }
  }

  /** The only device: a section that holds the state behind its length. */
  state(state: Uint8Array): void {
    this.#byte(F.SECTION_FULL);
    this.#be32(STATE_SECTION);
    this.#name(STATE_NAME);
    this.#be32(0);
    this.#be32(STATE_VERSION);
    this.#be32(state.length);
    this.#bytes(state);
    this.#footer(STATE_SECTION);
  }

  /** The end, and the description of the devices that QEMU puts behind it. */
  end(description: Uint8Array): void {
    this.#byte(F.EOF);
    this.#byte(F.VMDESCRIPTION);
    this.#be32(description.length);
    this.#bytes(description);
  }

  #blockOf(page: number): GuestBlock {
    const last = this.#lastBlock;
    if (last && page >= last.firstPage && page < last.firstPage + last.pages) return last;
    return this.#memory.blocks.findLast((block) => page >= block.firstPage)!;
  }

  #footer(section: number): void {
    this.#byte(F.SECTION_FOOTER);
    this.#be32(section);
  }

  #name(name: string): void {
    this.#byte(name.length);
    this.#bytes(Buffer.from(name, "latin1"));
  }

  #be64(value: number, flags: number): void {
    this.#be32(Math.floor(value / 2 ** 32));
    this.#be32((value % 2 ** 32) + flags);
  }

  #be32(value: number): void {
    this.#piece.writeUInt32BE(value, this.#length);
    this.#advance(4);
  }

  #be16(value: number): void {
    this.#piece.writeUInt16BE(value, this.#length);
    this.#advance(2);
  }

  #byte(value: number): void {
    this.#piece[this.#length] = value;
    this.#advance(1);
  }

  #bytes(bytes: Uint8Array): void {
    this.#piece.set(bytes, this.#length);
    this.#advance(bytes.length);
  }

  #advance(bytes: number): void {
    this.#length += bytes;
    this.transferred += bytes;
  }
}
