import { createHash } from "node:crypto";
import { closeSync, openSync, readdirSync, readFileSync, statSync, writeSync } from "node:fs";
import { basename, join } from "node:path";
import * as F from "../../core/segment/qemu/format.ts";
import { createQemuWriter, type QemuWriter } from "../../test/support/qemu-writer.ts";

const PAGE = 4096;
const MIB = 1 << 20;
const RAM_ID = 2;
const SOURCES = ["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/sbin", "/usr/lib"];

/** Pages as guests hold them: blocks of this machine's programs and libraries, up to `limit` bytes. */
export function pagesOfThisMachine(limit: number): Buffer {
  const parts: Buffer[] = [];
  let length = 0;
  for (const folder of SOURCES) {
    for (const name of listing(folder)) {
      const path = join(folder, name);
      try {
        if (length >= limit || !statSync(path).isFile()) continue;
        const bytes = readFileSync(path);
        const part = bytes.subarray(0, Math.min(limit - length, bytes.length - (bytes.length % PAGE)));
        parts.push(part);
        length += part.length;
      } catch {} // Not ours to read.
    }
  }
  return Buffer.concat(parts);
}

function listing(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/** One run of pages of a guest's memory, sent once. */
export interface Run {
  /** First page and number of pages. */
  readonly from: number;
  readonly pages: number;
  /** Pages of another version differ in a few words from those before. */
  readonly version: number;
}

export interface Guest {
  /** Which guest it is: its private pages differ from every other guest's. */
  readonly seed: number;
  /** Bytes of memory. */
  readonly memory: number;
  /** What is sent, in order. */
  readonly runs: readonly Run[];
  /** Of 16 pages, how many are zero, and how many are its own; the rest are as on this machine. */
  readonly zeros: number;
  readonly own: number;
}

/** Writes the migration stream of a guest to `path`: deterministic for a machine and these options. */
export function writeGuest(path: string, guest: Guest, pages: Buffer): void {
  const fd = openSync(path, "w", 0o600);
  const flush = (writer: QemuWriter) => {
    const bytes = writer.take();
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  };
  try {
    const writer = createQemuWriter().header().machine("pc-i440fx-10.0");
    writer.named(F.SECTION_START, RAM_ID, "ram", F.RAM_VERSION);
    writer
      .blockList([{ name: "pc.ram", length: guest.memory }])
      .record(0, F.RAM_EOS)
      .footer(RAM_ID);
    const page = Buffer.alloc(PAGE);
    for (const { from, pages: count, version } of guest.runs) {
      for (let done = 0; done < count; done += 64) {
        writer.continued(F.SECTION_PART, RAM_ID);
        for (let i = from + done; i < from + Math.min(done + 64, count); i++) {
          const continues = i > from + done ? F.RAM_CONTINUE : 0;
          const name = continues ? undefined : "pc.ram";
          const kind = i % 16;
          if (kind < guest.zeros && version === 0) {
            writer.record(i * PAGE, F.RAM_ZERO | continues, name).raw(0);
            continue;
          }
          fillPage(page, pages, i, kind < guest.zeros + guest.own ? guest.seed : 0, version);
          writer.record(i * PAGE, F.RAM_PAGE | continues, name).bytes(page);
        }
        writer.record(0, F.RAM_EOS).footer(RAM_ID);
        flush(writer);
      }
    }
    writer.continued(F.SECTION_END, RAM_ID).record(0, F.RAM_EOS).footer(RAM_ID).raw(F.EOF);
    flush(writer);
  } finally {
    closeSync(fd);
  }
}

/** A page of the machine; marked where it belongs to one guest, lies beyond the machine's own pages, or is a later version. */
function fillPage(page: Buffer, pages: Buffer, number: number, seed: number, version: number): void {
  const count = pages.length / PAGE;
  const from = (number % count) * PAGE;
  pages.copy(page, 0, from, from + PAGE);
  const lap = Math.floor(number / count);
  if (seed !== 0 || lap !== 0) {
    // A few words a page: alike to a window, another content to a digest.
    for (let at = 0; at < PAGE; at += 512)
      page.writeUInt32LE((Math.imul(number + at, 0x9e37_79b1) ^ (seed + lap * 7919)) >>> 0, at + 8);
  }
  for (let i = 1; i <= version; i++) {
    for (let at = 64; at < PAGE; at += 1024) page.writeUInt32LE((Math.imul(number ^ at, 0x85eb_ca6b) + i) >>> 0, at);
  }
}

/** The streams to measure: the arguments, or three guests made in `folder`, of which the third sends pages again. */
export function streams(args: readonly string[], folder: string): string[] {
  if (args.length > 0) return [...args];
  const pages = pagesOfThisMachine(192 * MIB);
  const memory = 256 * MIB;
  const all = memory / PAGE;
  const whole: Run = { from: 0, pages: all, version: 0 };
  return [1, 2, 3].map((seed) => {
    const path = join(folder, `guest${seed}.qevm`);
    const again = [1, 2, 3].map((version) => ({ from: 0, pages: all / 8, version }));
    writeGuest(path, { seed, memory, runs: seed === 3 ? [whole, ...again] : [whole], zeros: 6, own: 5 }, pages);
    return path;
  });
}

/** A file named by its content, for tables. */
export function contentName(path: string): string {
  const hash = createHash("sha256");
  const bytes = readFileSync(path);
  return `${basename(path)} (${megabytesOf(bytes.length)} MB, sha256 ${hash.update(bytes).digest("hex").slice(0, 12)})`;
}

function megabytesOf(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
