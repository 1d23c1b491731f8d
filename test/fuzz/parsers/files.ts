/** What lies on disk: a store's files, indexes, summaries, journals. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { formatTime } from "../../../cli/units.ts";
import { PageWorker } from "../../../core/content/page-worker.ts";
import type { ErrorCode } from "../../../core/errors.ts";
import { listJournals } from "../../../core/handover/journal.ts";
import { buildFuseFilter, decodeFuseFilter } from "../../../core/index/fuse-filter.ts";
import { readIndexFile } from "../../../core/index/index-file.ts";
import { readManifest } from "../../../core/site/manifest.ts";
import { LogReader } from "../../../core/store/content-log.ts";
import { decodeGroup } from "../../../core/store/group.ts";
import { heldBy, listHolds } from "../../../core/store/holds.ts";
import { type Layout, listDomains, openLayout, readIdentity } from "../../../core/store/layout.ts";
import { scanPack } from "../../../core/store/pack.ts";
import { readRun } from "../../../core/store/run-file.ts";
import { sha256 } from "../../fixtures/pages.ts";
import { STORE_DOMAIN, STORE_FOLDER } from "../../fixtures/store.ts";
import { type Artefact, plain } from "../mutate.ts";
import { ofBytes, type Parser } from "../parser.ts";
import { framesArtefact } from "./wire.ts";

const stored = (path: string) =>
  readFileSync(new URL(`../../fixtures/store-v1/${STORE_FOLDER.replace("%", "%25")}/${path}`, import.meta.url));
const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
};

/** A parser of a file, which gets a folder of its own while it runs. */
function ofFile(
  name: string,
  file: string,
  artefacts: readonly Artefact[],
  parse: (path: string, folder: string) => unknown,
  codes: readonly ErrorCode[] = ["integrity", "refused"],
  runs = 150,
): Parser {
  let folder: Promise<string> | undefined;
  return ofBytes(
    name,
    artefacts,
    async (bytes) => {
      folder ??= mkdtemp(join(tmpdir(), "shrinker-fuzz-"));
      const path = join(await folder, file);
      writeFileSync(path, bytes);
      await parse(path, await folder);
    },
    {
      codes,
      runs,
      async close() {
        if (folder) await rm(await folder, { recursive: true });
        folder = undefined;
      },
    },
  );
}

/** Header, and of each group its header without checksums, its digests, and its contents. */
function packArtefact(bytes: Buffer): Artefact {
  const parts = [bytes.subarray(0, 12)];
  for (let at = 16; at + 24 <= bytes.length; ) {
    const [count, length] = [bytes.readUInt32LE(at + 4), bytes.readUInt32LE(at + 8)];
    const digests = at + 24 + count * 32;
    parts.push(
      bytes.subarray(at, at + 16),
      bytes.subarray(at + 24, digests),
      bytes.subarray(digests, digests + length),
    );
    at = digests + length;
  }
  return {
    parts,
    join([head = Buffer.alloc(0), ...groups]) {
      const whole = [head, u32(crc32(head))];
      for (let i = 0; i < groups.length; i += 3) {
        const [header = Buffer.alloc(0), digests = Buffer.alloc(0), contents = Buffer.alloc(0)] = groups.slice(
          i,
          i + 3,
        );
        const begun = Buffer.concat([header, u32(crc32(contents))]);
        whole.push(begun, u32(crc32(digests, crc32(begun))), digests, contents);
      }
      return Buffer.concat(whole);
    },
  };
}

const worker = new PageWorker();
const packs = ofFile("packs", "00001.pack", [packArtefact(stored("packs/00001.pack"))], async (path) => {
  const read = { end: 0, size: 0 };
  let groups = 0;
  for await (const { header, stored, whole } of scanPack(path, 0, read)) {
    if (++groups > 1000) throw new Error("a scan of a small pack has no end");
    // Decoded also where the checksum is wrong: what a group claims must not matter.
    if (!whole && groups > 3) continue;
    const { pages } = await decodeGroup(header, new Uint8Array(stored), worker);
    if (pages.length !== header.count * 4096) throw new Error("a group has other contents than it says");
  }
  if (read.end > read.size) throw new Error("groups go beyond the pack");
});

const runs = ofFile(
  "runs of an index",
  "1-1.run",
  ["index/1-1.run", "index/2-2.run"].map((path) => {
    const bytes = stored(path);
    const head = 28 + bytes.readUInt32LE(12) * 8;
    return {
      parts: [bytes.subarray(0, 20), bytes.subarray(28, head), bytes.subarray(head)],
      join([begin = Buffer.alloc(0), covered = Buffer.alloc(0), records = Buffer.alloc(0), ...more]) {
        const header = Buffer.concat([begin, u32(crc32(records))]);
        return Buffer.concat([header, u32(crc32(covered, crc32(header))), covered, records, ...more]);
      },
    };
  }),
  readRun,
);

/** A log's header without its checksum, and of each block its count and digests. */
function logArtefact(bytes: Buffer): Artefact {
  const parts = [bytes.subarray(0, 60)];
  for (let at = 64; at < bytes.length; at += 8200)
    parts.push(bytes.subarray(at, at + 4), bytes.subarray(at + 8, at + 8200));
  return {
    parts,
    join([head = Buffer.alloc(0), ...blocks]) {
      const whole = [head, u32(crc32(head))];
      for (let i = 0; i < blocks.length; i += 2) {
        const digests = blocks[i + 1] ?? Buffer.alloc(0);
        whole.push(blocks[i]!, u32(crc32(digests)), digests);
      }
      return Buffer.concat(whole);
    },
  };
}

const logs = ofFile(
  "content logs",
  "a.log",
  [logArtefact(stored("logs/000102030405060708090a0b0c0d0e0f.log"))],
  (path) => {
    const log = LogReader.open(path);
    if (!log) return;
    try {
      if (log.length > 4096) throw new Error(`${log.length} digests in a small log`);
      log.read(0, log.length, new Uint8Array(log.length * 32), 0);
    } finally {
      log.close();
    }
  },
  [],
);

const hold = stored("holds/carried.hold");
const holds = ofFile(
  "holds",
  "carried.hold",
  [
    {
      parts: [hold.subarray(0, 32), hold.subarray(40)],
      join([begin = Buffer.alloc(0), records = Buffer.alloc(0), ...more]) {
        const header = Buffer.concat([begin, u32(crc32(records))]);
        return Buffer.concat([header, u32(crc32(header)), records, ...more]);
      },
    },
  ],
  async (_, folder) => {
    const layout = { holds: folder } as Layout;
    for (const { created, expires } of await listHolds(layout))
      for (const time of [created, expires]) if (Number.isNaN(time) || time < 0) throw new Error(`a time is ${time}`);
    await heldBy(layout, "carried");
  },
);

const manifests = ofFile(
  "manifests",
  "monday.snapshot",
  [framesArtefact(stored("snapshots/monday.snapshot"))],
  (path) => readManifest(path),
  ["integrity", "refused"],
  80,
);

const identities = ofFile(
  "a store's own words",
  "shrinker-store",
  [plain(Buffer.from("version 1\n")), plain(stored("site"), [1, 8, 20, 40])],
  async (path, folder) => {
    const bytes = readFileSync(path);
    const layout = { folder, domain: STORE_DOMAIN } as Layout;
    writeFileSync(join(folder, "site"), bytes);
    await Promise.all([
      openLayout(folder, STORE_DOMAIN, false).then(() => listDomains(folder)),
      readIdentity(layout).catch((error) => {
        if (bytes.length > 12) throw error;
      }),
    ]);
  },
  ["integrity", "refused"],
  80,
);

const example = readFileSync(new URL("../../fixtures/index-v1/example.index", import.meta.url));
const mapEnd = 16 + example.readUInt32LE(12);
const indexes = ofFile(
  "index files",
  "example.index",
  [
    {
      parts: [example.subarray(0, 16), example.subarray(16, mapEnd), example.subarray(mapEnd + 4, -32)],
      join([begin = Buffer.alloc(0), map = Buffer.alloc(0), ...records]) {
        const head = Buffer.concat([begin, map]);
        const body = Buffer.concat([head, u32(crc32(head)), ...records]);
        return Buffer.concat([body, sha256(body)]);
      },
    },
  ],
  readIndexFile,
  ["integrity", "input"],
  400,
);

/** Keys enough for several segments. */
const words = Uint32Array.from({ length: 2000 }, (_, i) => Math.imul(i + 1, 0x9e3779b1));
const summaries = ofBytes(
  "summaries",
  [8 as const, 16 as const].flatMap((bits) =>
    [words, words.subarray(0, 2), words.subarray(0, 0)].map((keys) => {
      const bytes = Buffer.concat(buildFuseFilter(keys, bits).encode());
      return {
        parts: [bytes.subarray(0, 28), bytes.subarray(32)],
        join: ([header = Buffer.alloc(0), ...body]: readonly Buffer[]) => {
          const rest = Buffer.concat(body);
          return Buffer.concat([header, u32(crc32(rest, crc32(header))), rest]);
        },
      };
    }),
  ),
  (bytes) => {
    const filter = decodeFuseFilter(bytes);
    for (let at = 0; at < words.length; at += 2) filter.has(new Int32Array(words.buffer), at);
  },
  { runs: 800 },
);

const id = "0123456789abcdef0123456789abcdef";
const entry = {
  ...{ version: 1, id, role: "source", phase: "given", name: "web", qmp: "/run/qmp", socket: "1:2", pid: 7, ran: true },
  ...{ runs: true, started: true, to: "tcp://127.0.0.1:1", began: "2026-01-01T00:00:00.000Z", changed: "2026-01-01" },
  settings: { capabilities: { events: true }, parameters: { "max-bandwidth": { integer: "9223372036854775807" } } },
};
const journal = Buffer.from(JSON.stringify(entry, undefined, 1));
const journals = ofFile(
  "journals",
  "journal",
  [
    plain(
      journal,
      [...journal.entries()].flatMap(([i, byte]) => (byte === 10 ? i : [])),
    ),
  ],
  async (path, folder) => {
    const migrations = join(folder, "migrations");
    mkdirSync(migrations, { recursive: true });
    writeFileSync(join(migrations, `source-${id}.json`), readFileSync(path));
    for (const { began, changed } of await listJournals(folder))
      for (const time of [began, changed]) formatTime(Date.parse(time));
  },
  ["integrity"],
  150,
);

export const fileParsers = [packs, runs, logs, holds, manifests, identities, indexes, summaries, journals];
