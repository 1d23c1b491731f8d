import * as F from "../../core/segment/qemu/format.ts";
import { createQemuWriter, type QemuWriter } from "./qemu-writer.ts";

const PAGE = 4096;
const RAM_ID = 2;
const KEYS_A_BLOCK = 2 ** 40;

export interface StreamBlock {
  readonly name: string;
  /** Bytes, a multiple of 4096. */
  readonly length: number;
  /** The pages that are sent: `[firstPage, firstPage + pages)`; all of them by default. */
  readonly firstPage?: number;
  readonly pages?: number;
}

export interface QemuStreamOptions {
  /** Which guest it is; the same options always give the same bytes. */
  readonly seed?: number;
  readonly blocks?: readonly StreamBlock[];
  /** 1: each page is sent once. Every further round sends a part of them again, with a few words changed. */
  readonly rounds?: number;
  /** The part of the pages that a further round sends again, 0 to 1. */
  readonly dirtyShare?: number;
  /** The part of the pages that are zero at first, 0 to 1. */
  readonly zeroShare?: number;
  /** The part of the other pages whose contents the guests of all seeds have in common, 0 to 1. */
  readonly sharedShare?: number;
  /** Sends the devices in a package, and the last round after it. */
  readonly postcopy?: boolean;
  /** Bytes of device state. */
  readonly deviceBytes?: number;
  /** Bytes of the description of the devices; 0 for none. */
  readonly descriptionBytes?: number;
  readonly pieceSize?: number;
  /** Told of each record in order: the key that a segmenter should give it, and whether it carries contents. */
  onRecord?(key: number, isPage: boolean): void;
}

type Settings = Required<Omit<QemuStreamOptions, "onRecord">> & Pick<QemuStreamOptions, "onRecord">;

const DEFAULTS: Settings = {
  seed: 1,
  blocks: [
    { name: "pc.ram", length: 128 * PAGE },
    { name: "pc.bios", length: 16 * PAGE },
  ],
  rounds: 1,
  dirtyShare: 0.1,
  zeroShare: 0.5,
  sharedShare: 0,
  postcopy: false,
  deviceBytes: 4096,
  descriptionBytes: 0,
  pieceSize: 65536,
};

/** A valid migration stream in fresh pieces of `pieceSize` bytes (the last one is shorter); of any length, in little memory. */
export function* qemuStream(options: QemuStreamOptions = {}): Generator<Uint8Array> {
  const settings: Settings = { ...DEFAULTS, ...options };
  let piece = new Uint8Array(settings.pieceSize);
  let filled = 0;
  for (const part of streamParts(settings)) {
    for (let at = 0; at < part.length; ) {
      const taken = Math.min(part.length - at, piece.length - filled);
      piece.set(part.subarray(at, at + taken), filled);
      at += taken;
      filled += taken;
      if (filled < piece.length) continue;
      yield piece;
      piece = new Uint8Array(settings.pieceSize);
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
}

/** The whole stream at once. */
export function qemuStreamBytes(options: QemuStreamOptions = {}): Buffer {
  return Buffer.concat([...qemuStream(options)]);
}

function* streamParts(settings: Settings): Generator<Uint8Array> {
  const { blocks, rounds, postcopy, deviceBytes, seed } = settings;
  const writer = createQemuWriter().header().machine("pc-i440fx-10.0");
  writer.capabilities().subsection("uuid", Buffer.alloc(16, seed));
  writer.command(1).command(2, Buffer.of(0, 0, 0, 1));
  if (postcopy) writer.command(F.COMMAND_POSTCOPY_ADVISE, Buffer.from("00000000000010000000000000001000", "hex"));
  writer.named(F.SECTION_START, RAM_ID, "ram", F.RAM_VERSION).blockList(blocks).record(0, F.RAM_EOS).footer(RAM_ID);
  yield writer.take();
  const records = createRecordWriter(writer, settings);
  const devices = createQemuWriter();
  devices.named(F.SECTION_FULL, 0, "timer", 2).bytes(noise(seed, deviceBytes)).footer(0);
  for (let round = 0; round < rounds; round++) {
    if (postcopy && round === rounds - 1) {
      const content = createQemuWriter().command(4).bytes(devices.take()).command(5);
      writer.command(6, Buffer.from("\x00\x06pc.ram\x00", "latin1")).packaged(content.take());
    }
    yield* roundSections(writer, records, settings, round);
  }
  writer.continued(F.SECTION_END, RAM_ID);
  records.write(0, blocks[0]?.firstPage ?? 0, rounds);
  writer.record(0, F.RAM_EOS).footer(RAM_ID).bytes(devices.take()).raw(F.EOF);
  yield writer.take();
  if (settings.descriptionBytes > 0) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(settings.descriptionBytes);
    yield writer.raw(F.VMDESCRIPTION).bytes(length).bytes(Buffer.alloc(settings.descriptionBytes, "{}")).take();
  }
}

/** Sections of up to 64 records, as QEMU makes them at a limited rate. */
function* roundSections(
  writer: QemuWriter,
  records: RecordWriter,
  { blocks, dirtyShare, seed }: Settings,
  round: number,
): Generator<Uint8Array> {
  let count = 0;
  for (const [index, { length, firstPage = 0, pages = length / PAGE }] of blocks.entries()) {
    for (let page = firstPage; page < firstPage + pages; page++) {
      if (round > 0 && share(seed, index, page, round) >= dirtyShare) continue;
      if (count++ === 0) writer.continued(F.SECTION_PART, RAM_ID);
      records.write(index, page, round);
      if (count < 64) continue;
      yield writer.record(0, F.RAM_EOS).footer(RAM_ID).take();
      count = 0;
    }
  }
  if (count > 0) yield writer.record(0, F.RAM_EOS).footer(RAM_ID).take();
}

interface RecordWriter {
  write(block: number, page: number, version: number): void;
}

function createRecordWriter(writer: QemuWriter, settings: Settings): RecordWriter {
  const { blocks, seed, zeroShare, sharedShare } = settings;
  const words = new Uint32Array(PAGE / 4);
  const content = new Uint8Array(words.buffer);
  let last = -1;
  return {
    write(block, page, version) {
      const isPage = version > 0 || share(seed, block, page, -1) >= zeroShare;
      const sameBlock = block === last ? F.RAM_CONTINUE : 0;
      last = block;
      writer.record(page * PAGE, (isPage ? F.RAM_PAGE : F.RAM_ZERO) | sameBlock, blocks[block]?.name ?? "");
      if (isPage) {
        const owner = share(0, block, page, -2) < sharedShare ? 0 : seed;
        fillPage(words, mix(owner, block, page, -3), version, mix(seed, block, page, version));
        writer.bytes(content);
      } else writer.raw(0);
      settings.onRecord?.(block * KEYS_A_BLOCK + page, isPage);
    },
  };
}

/** Contents that a compressor halves (half of the bits are fixed). A version changes 16 words of what the page held first. */
function fillPage(words: Uint32Array, base: number, version: number, change: number): void {
  let x = base | 1;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x & 0x0f0f0f0f;
  }
  words[0] = base | 1; // never zeros
  if (version > 0) for (let i = 0; i < 16; i++) words[1 + ((change >>> 8) & 0x1ff) + i] = change + i;
}

/** Any bytes, for what a parser must not look into. */
function noise(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = mix(seed, i, 0, -4) >>> 24;
  return bytes;
}

/** A number in [0, 1) that depends on all of these. */
function share(seed: number, block: number, page: number, salt: number): number {
  return (mix(seed, block, page, salt) >>> 0) / 2 ** 32;
}

/** Stirs numbers into 32 bits, by the finalizer of MurmurHash3. */
function mix(seed: number, block: number, page: number, salt: number): number {
  let hash = 0;
  for (const value of [seed, block, page, salt]) {
    hash = Math.imul(hash ^ value, 0x85ebca6b) + 0x9e3779b9;
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return hash;
}
