import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import fc from "fast-check";
import type { ContentBroker } from "../../../core/engine/broker.ts";
import { type CodecPolicy, fixedCodec } from "../../../core/engine/codec-policy.ts";
import { KnownLedger } from "../../../core/engine/known.ts";
import { memoryIndex } from "../../../core/index/memory.ts";
import type { SiteIndex } from "../../../core/index/site-index.ts";
import { decodeBatch } from "../../../core/wire/batch.ts";
import { CODEC, COLUMN, FRAME, OP } from "../../../core/wire/numbers.ts";
import { OpReader } from "../../../core/wire/ops.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { type Fault, faulty } from "../../support/faults.ts";
import { qemuStreamBytes } from "../../support/qemu-stream.ts";
import { known, memoryTarget, migrate, record, replay, siteOf, source } from "../../support/session.ts";
import { noise, text } from "./contents.ts";
import { splitFrames } from "./wire.ts";

/** As `zstd`, XORs included, but readable. */
const readable: CodecPolicy = { compresses: true, fillsWindow: true, wantsXors: true, next: () => CODEC.NONE };

interface Operation {
  readonly code: number;
  readonly run: number;
  readonly argument: number;
}

/** The batches of a recording that was made with `readable`. */
function batches(bundle: Buffer) {
  return splitFrames(bundle)
    .filter(({ type }) => type === FRAME.BATCH)
    .map(({ payload }) => {
      const { header, columns } = decodeBatch(Buffer.from(payload));
      const column = (wanted: number) =>
        Buffer.from(columns.find(({ column }) => column === wanted)?.parts[0] ?? Buffer.alloc(0));
      const ops: Operation[] = [];
      const reader = new OpReader(column(COLUMN.OPS), column(COLUMN.ARGUMENTS), header.first);
      while (reader.next()) ops.push({ code: reader.code, run: reader.run, argument: reader.argument });
      return { header, ops, column };
    });
}

const count = (bundle: Buffer, code: number) =>
  batches(bundle)
    .flatMap(({ ops }) => ops)
    .filter((op) => op.code === code)
    .reduce((sum, { run }) => sum + run, 0);

const sha256 = (page: Uint8Array) => createHash("sha256").update(page).digest("hex");

describe("what a log forgets", () => {
  const guest = (seed: number) =>
    qemuStreamBytes({
      seed,
      rounds: 4,
      dirtyShare: 0.6,
      zeroShare: 0.1,
      sharedShare: 0.5,
      blocks: [{ name: "pc.ram", length: 600 * 4096 }],
    });

  test.each([1, 20, 256, 300, 1000])("both ends forget alike, with room for %d contents", async (logLimit) => {
    const streams = [guest(1), guest(2), Buffer.concat(Array.from({ length: 900 }, (_, i) => noise(i % 400)))];
    const sources = streams.map((bytes, i) => source(`${i}`, i < 2 ? "qemu" : "raw", [bytes]));
    const { files } = await migrate(sources, { sending: { logLimit, parallel: 3 } });
    streams.forEach((bytes, i) => {
      expect(Buffer.compare(files.get(`${i}`).bytes, bytes)).toBe(0);
    });
  });

  test("is never referred to, and not more is kept than agreed on", async () => {
    const logLimit = 300;
    const bundle = await record([source("a", "qemu", [guest(1)]), source("b", "qemu", [guest(2)])], {
      logLimit,
      codec: readable,
    });
    let forgotten = 0;
    for (const { header, ops } of batches(bundle)) {
      expect(header.first - header.forget).toBeLessThanOrEqual(logLimit);
      expect(header.forget).toBe(Math.max(0, header.first - logLimit));
      forgotten = header.forget;
      for (const { code, argument } of ops) {
        if (code === OP.REF || code === OP.SAME || code === OP.DELTA)
          expect(argument).toBeGreaterThanOrEqual(header.forget);
      }
    }
    expect(forgotten).toBeGreaterThan(600);
    expect(count(bundle, OP.DELTA)).toBeGreaterThan(0);
    const files = memoryTarget();
    await replay(bundle, files);
    expect(Buffer.compare(files.get("b").bytes, guest(2))).toBe(0);
  });

  test("is sent again as new", async () => {
    const disk = Buffer.concat(Array.from({ length: 2000 }, (_, i) => noise(i % 1000)));
    const all = await record([source("a", "raw", [disk])], { codec: readable });
    const few = await record([source("a", "raw", [disk])], { codec: readable, logLimit: 100 });
    expect(count(all, OP.REF)).toBe(1000);
    expect(count(few, OP.REF)).toBe(0);
  });
});

describe("pages that are sent again", () => {
  const blocks = [{ name: "pc.ram", length: 200 * 4096 }];
  test("go as the XOR with their last version where that is mostly zeros", async () => {
    const options = { blocks, zeroShare: 0, dirtyShare: 1 };
    const once = await record([source("a", "qemu", [qemuStreamBytes({ ...options, rounds: 1 })])], { codec: readable });
    const thrice = await record([source("a", "qemu", [qemuStreamBytes({ ...options, rounds: 3 })])], {
      codec: readable,
    });
    // QEMU's last section sends one page more.
    expect(count(once, OP.DELTA)).toBe(1);
    expect(count(thrice, OP.DELTA)).toBe(401);
    let within = 0;
    for (const { header, ops, column } of batches(thrice)) {
      const deltas = column(COLUMN.DELTAS);
      for (let at = 0; at < deltas.length; at += 4096) {
        expect(deltas.subarray(at, at + 4096).filter((byte) => byte === 0).length).toBeGreaterThanOrEqual(2048);
      }
      for (const { code, argument } of ops) if (code === OP.DELTA && argument >= header.first) within++;
    }
    // Also where the last version is in the same batch.
    expect(within).toBeGreaterThan(0);
    const files = memoryTarget();
    await replay(thrice, files);
    expect(Buffer.compare(files.get("a").bytes, qemuStreamBytes({ ...options, rounds: 3 }))).toBe(0);
  });

  test("go as they are where they have little in common, or nothing is compressed", async () => {
    const stream = qemuStreamBytes({ blocks, zeroShare: 0, rounds: 2, dirtyShare: 1 });
    expect(count(await record([source("a", "qemu", [stream])], { codec: fixedCodec("none") }), OP.DELTA)).toBe(0);
    const mixed = Buffer.from(stream);
    // Whatever a page held, it differs from its last version in most bytes now.
    let x = 1;
    for (let i = 8192; i < mixed.length; i++) {
      x = (Math.imul(x, 1_103_515_245) + 12_345) >>> 0;
      if (mixed[i]! <= 0x0f && mixed[i]! > 0) mixed[i] = 1 + ((x >>> 16) % 15);
    }
    expect(count(await record([source("a", "qemu", [mixed])], { codec: readable }), OP.DELTA)).toBe(0);
  });

  test("of an image have no last version", async () => {
    const changed = text(1);
    changed[7] = 1;
    const disk = Buffer.concat([text(1), changed, text(1)]);
    const bundle = await record([source("a", "raw", [disk, disk])], { codec: readable });
    expect(count(bundle, OP.DELTA)).toBe(0);
    expect(count(bundle, OP.REF) + count(bundle, OP.SAME)).toBe(4);
  });

  test("go as they are where their last version is forgotten", async () => {
    const stream = qemuStreamBytes({ blocks, zeroShare: 0, dirtyShare: 1, rounds: 3 });
    const bundle = await record([source("a", "qemu", [stream])], { codec: readable, logLimit: 50 });
    for (const { header, ops } of batches(bundle)) {
      for (const { code, argument } of ops)
        if (code === OP.DELTA) expect(argument).toBeGreaterThanOrEqual(header.forget);
    }
    expect(count(bundle, OP.DELTA)).toBeLessThan(401);
  });
});

/** Claims what `claims` says, whatever it was told. */
const site = (claims: (digest: Buffer, i: number) => boolean): SiteIndex => ({
  async lookup(digests, count, held) {
    for (let i = 0; i < count; i++) held[i] = claims(Buffer.from(digests.subarray(i * 32, i * 32 + 32)), i) ? 1 : 0;
  },
  async insert() {},
  async close() {},
});

/** Has these pages; what `corrupt` names, it has wrong. */
function broker(pages: readonly Buffer[], corrupt: (i: number) => boolean = () => false): ContentBroker {
  const byDigest = new Map(pages.map((page, i) => [sha256(page), corrupt(i) ? noise(i + 77_777) : page]));
  return {
    name: "test",
    async fetch(digests, count, found, target) {
      for (let i = 0; i < count; i++) {
        const page = byDigest.get(Buffer.from(digests.subarray(i * 32, i * 32 + 32)).toString("hex"));
        if (found[i] !== 0 || !page) continue;
        target.set(page, i * 4096);
        found[i] = 1;
      }
    },
  };
}

describe("contents that the destination is said to hold", () => {
  const pages = Array.from({ length: 700 }, (_, i) => (i % 3 === 0 ? noise(i) : text(i)));
  const disk = Buffer.concat(pages);

  test("arrive, whoever has them and however wrong the index is", async () => {
    const share = fc.constantFrom(0, 0.1, 0.5, 1);
    await fc.assert(
      fc.asyncProperty(
        share,
        share,
        share,
        fc.constantFrom("zstd", "lz4", "none"),
        fc.constantFrom(100, 1 << 20),
        async (claimed, held, corrupt, codec, logLimit) => {
          const index = site((digest) => digest[0]! < claimed * 256);
          const brokers = [
            broker(
              pages.filter((_, i) => i % 100 < held * 100),
              (i) => i % 10 < corrupt * 10,
            ),
            broker(pages.slice(0, 50)),
          ];
          const guest = qemuStreamBytes({ rounds: 2, dirtyShare: 0.5 });
          const sources = [source("disk", "raw", [disk, disk]), source("guest", "qemu", [guest])];
          const { sent, received, files } = await migrate(sources, {
            sending: { site: known(index), codec: fixedCodec(codec as "zstd"), parallel: 2, logLimit },
            receiving: { openSite: siteOf(brokers) },
          });
          expect(Buffer.compare(files.get("disk").bytes, Buffer.concat([disk, disk]))).toBe(0);
          expect(Buffer.compare(files.get("guest").bytes, guest)).toBe(0);
          expect(sent.counters).toEqual(received.counters);
          const { plain, zero, deduplicated, fresh } = sent.counters;
          expect(zero + deduplicated + fresh).toBe(plain);
          if (claimed === 1 && logLimit > 100) expect(fresh).toBeLessThan(guest.length);
        },
      ),
      { numRuns: 25 },
    );
  }, 30_000);

  test("cost only their digests where they are there", async () => {
    const [near, far] = memoryPair();
    let bytes = 0;
    const counting: Fault = async function* (input) {
      for await (const piece of input) {
        bytes += piece.length;
        yield piece;
      }
    };
    const pair = [faulty(near, { output: [counting] }), far] as const;
    const index = memoryIndex();
    const digests = Buffer.concat(pages.map((page) => createHash("sha256").update(page).digest()));
    await index.insert(digests, pages.length);
    const { files } = await migrate([source("disk", "raw", [disk])], {
      pair,
      sending: { site: known(index), codec: fixedCodec("none") },
      receiving: { openSite: siteOf([broker(pages)]) },
    });
    expect(Buffer.compare(files.get("disk").bytes, disk)).toBe(0);
    expect(bytes).toBeLessThan(pages.length * 40 + 2000);
  });

  test("that a recording names and nobody has are missed clearly", async () => {
    const bundle = await record([source("disk", "raw", [disk])], { site: known(site(() => true)) });
    const there = memoryTarget();
    await replay(bundle, there, { openSite: siteOf([broker(pages)]) });
    expect(Buffer.compare(there.get("disk").bytes, disk)).toBe(0);
    const files = memoryTarget();
    const replaying = replay(bundle, files, { openSite: siteOf([broker(pages.slice(1))]) });
    await expect(replaying).rejects.toMatchObject({ code: "integrity" });
    await expect(replay(bundle, files)).rejects.toThrow(/said to be/);
    for (const { ends } of files.all) expect(ends).toEqual(["abort"]);
  });

  test("are named by a recording without limit, as nobody can ask for them", async () => {
    const many = function* () {
      for (let i = 0; i < 20_000; i += 100) yield Buffer.concat(Array.from({ length: 100 }, (_, k) => noise(i + k)));
    };
    const bundle = await record([source("disk", "raw", many())], {
      site: known(site(() => true)),
      codec: fixedCodec("none"),
    });
    expect(bundle.length).toBeLessThan(20_000 * 40);
  });

  test("are not said to be there by a recording because it has itself brought them, once they are forgotten", async () => {
    const again = Buffer.concat(Array.from({ length: 2000 }, (_, i) => noise(i % 1000)));
    const bundle = await record([source("disk", "raw", [again])], { site: known(memoryIndex()), logLimit: 100 });
    const files = memoryTarget();
    await replay(bundle, files);
    expect(Buffer.compare(files.get("disk").bytes, again)).toBe(0);
  });
});

describe("the ledger of what may be asked for", () => {
  test("lets each be asked for once, until it is resolved", () => {
    const ledger = new KnownLedger();
    for (const number of [3, 4, 9]) ledger.add(number);
    expect(ledger.oldest).toBe(3);
    ledger.want(4);
    expect(() => ledger.want(4)).toThrow(/asked for before/);
    expect(() => ledger.want(5)).toThrow(/not sent by digest/);
    ledger.resolved(9);
    expect(ledger.oldest).toBe(9);
    expect(() => ledger.want(3)).toThrow();
    ledger.want(9);
    ledger.resolved(10);
    expect(ledger.oldest).toBe(Number.POSITIVE_INFINITY);
  });

  test("keeps none for a peer that leaves it unresolved for 2^20 others, and says so where it asks later", () => {
    const ledger = new KnownLedger();
    ledger.add(0);
    ledger.add(2 ** 20);
    expect(ledger.oldest).toBe(0);
    ledger.add(2 ** 20 + 1);
    expect(ledger.oldest).toBe(2 ** 20);
    expect(() => ledger.want(0)).toThrow(/not sent by digest/);
  });

  test("stands a storm: of all that may be asked for each is given once, whatever else is asked", () => {
    const ledger = new KnownLedger();
    for (let number = 0; ledger.room() > 0; number++) ledger.add(number);
    let given = 0;
    for (let i = 0; i < 100_000; i++) {
      try {
        ledger.want((i * 7919) % 20_000);
        given++;
      } catch {}
    }
    expect(given).toBe(16_384);
    // What was asked for has no room for others until it is resolved.
    expect(ledger.room()).toBe(0);
  });

  test("has room for 64 MiB", () => {
    const ledger = new KnownLedger();
    for (let number = 0; ledger.room() > 0; number++) ledger.add(number);
    ledger.resolved(100);
    expect(ledger.room()).toBe(100);
    for (let number = 16_384; ledger.room() > 0; number++) ledger.add(number);
    expect(ledger.oldest).toBe(100);
  });
});
