import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { mkdir } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import type { ContentBroker } from "../engine/broker.ts";
import { scanContents } from "../engine/scan.ts";
import { fileError, ShrinkerError } from "../errors.ts";
import { type PrefixTable, PrefixTableBuilder } from "../index/prefix-table.ts";
import { openImage } from "../machines/image/source.ts";
import { segmentFormats } from "../segment/registry.ts";
import { PLACE_BYTES, readRun, writeRun } from "../store/run-file.ts";

/** Seeds of one receiver. */
const MAX_SEEDS = 1024;

export interface SeedFile {
  /** Base name. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly mtime: number;
}

interface Seed extends SeedFile {
  readonly fd: number;
  /** Stands for the file as it was when it was read. */
  readonly key: Buffer;
  readonly table: PrefixTable;
}

/**
 * Files at the destination that serve their pages: disk images, streams, raw memory. They are read and digested once, and what
 * was found is kept in a cache by path, size and times. A file that has changed since is no fault: whoever uses a page
 * checks it, and looks elsewhere. 28 bytes of RAM a distinct chunk.
 */
export class Seeds implements ContentBroker {
  readonly name = "seeds";
  readonly #seeds: readonly Seed[];

  private constructor(seeds: readonly Seed[]) {
    this.#seeds = seeds;
  }

  /**
   * Opens files as seeds. Rejects with `input` for one that can't be read.
   * @param cache folder for what was found in them; undefined keeps nothing
   */
  static async open(paths: readonly string[], cache: string | undefined, signal: AbortSignal): Promise<Seeds> {
    if (paths.length > MAX_SEEDS) throw new ShrinkerError("usage", `At most ${MAX_SEEDS} seeds, not ${paths.length}`);
    const seeds: Seed[] = [];
    try {
      for (const path of paths) seeds.push(await openSeed(path, cache, signal));
    } catch (error) {
      for (const { fd } of seeds) closeSync(fd);
      throw error;
    }
    return new Seeds(seeds);
  }

  get files(): readonly SeedFile[] {
    return this.#seeds;
  }

  /** Distinct chunks; those that several files have count several times. */
  get count(): number {
    return this.#seeds.reduce((sum, { table }) => sum + table.count, 0);
  }

  get tables(): readonly PrefixTable[] {
    return this.#seeds.map(({ table }) => table);
  }

  /** Changes with any of the files. */
  get key(): Buffer {
    const hash = createHash("sha256");
    for (const { key } of this.#seeds) hash.update(key);
    return hash.digest();
  }

  has({ name, size }: { name: string; size: number }): boolean {
    return this.#seeds.some((seed) => seed.name === name && seed.size === size);
  }

  async fetch(digests: Uint8Array, count: number, found: Uint8Array, pages: Uint8Array): Promise<void> {
    for (let i = 0; i < count; i++) {
      if (found[i] !== 0) continue;
      for (const { table, fd } of this.#seeds) {
        const at = table.find(digests, i * DIGEST_SIZE);
        if (at < 0 || !readPage(fd, table.offsetAt(at), pages, i * PAGE_SIZE)) continue;
        found[i] = 1;
        break;
      }
    }
  }

  close(): void {
    for (const { fd } of this.#seeds) closeSync(fd);
  }
}

/** False where the file is shorter now, or can't be read. */
function readPage(fd: number, offset: number, target: Uint8Array, at: number): boolean {
  try {
    return readSync(fd, target, at, PAGE_SIZE, offset) === PAGE_SIZE;
  } catch {
    return false;
  }
}

async function openSeed(path: string, cache: string | undefined, signal: AbortSignal): Promise<Seed> {
  let fd: number;
  let stats: Stats;
  try {
    // Without waiting for whoever would write to a FIFO.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    stats = fstatSync(fd);
  } catch (error) {
    throw fileError("Cannot read the seed", path, error);
  }
  try {
    if (stats.isFIFO() || stats.isCharacterDevice())
      throw new ShrinkerError(
        "input",
        `Cannot read the seed "${path}": it is a pipe or a terminal; give a file or a disk`,
      );
    const { size, mtimeMs: mtime, ctimeMs, ino, dev } = stats;
    const key = createHash("sha256")
      .update(JSON.stringify([resolve(path), dev, ino, size, mtime, ctimeMs]))
      .digest();
    const cached = cache && join(cache, `${key.toString("hex")}.run`);
    let table = cached && (await readRun(cached).catch(() => undefined))?.table;
    if (!table) {
      table = await digestSeed(path, signal);
      if (cached) await keep(cache, cached, table);
    }
    return { name: basename(path), size, mtime, fd, key, table };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

async function digestSeed(path: string, signal: AbortSignal): Promise<PrefixTable> {
  const source = await openImage({ path, digest: false, name: "seed" });
  const builder = new PrefixTableBuilder(PLACE_BYTES);
  const segmenter = segmentFormats.get(source.info.format)!.create();
  await scanContents(segmenter, source.pieces(signal), ({ count, digests, offsets }) => {
    for (let i = 0; i < count; i++) builder.add(digests, i * DIGEST_SIZE, 0, offsets[i]);
  });
  return builder.build();
}

/** A cache that can't be written costs time, and nothing else. */
async function keep(cache: string, path: string, table: PrefixTable): Promise<void> {
  await mkdir(cache, { recursive: true, mode: 0o700 }).catch(() => {});
  await writeRun(path, { covered: new Map(), table }).catch(() => {});
}
