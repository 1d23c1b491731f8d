import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { noCounters } from "../../../core/engine/counters.ts";
import { openLayout, readIdentity, writeIdentity } from "../../../core/store/layout.ts";
import { countBytes } from "../../../core/transport/count.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { cutAfter, faulty } from "../../support/faults.ts";
import { memoryTarget, migrate, migrateBoth, source } from "../../support/session.ts";
import { seedsOf, type TestSite, testSite } from "../../support/sites.ts";
import { noise, text } from "../engine/contents.ts";

let site: TestSite;
beforeEach(() => {
  site = testSite();
});
afterEach(() => site.remove());

const pages = (from: number, count: number) => Buffer.concat(Array.from({ length: count }, (_, i) => text(from + i)));

/** Migrates one disk to the site; returns what crossed. */
async function move(bytes: Uint8Array, { memory = true, seeds }: { memory?: boolean; seeds?: string[] } = {}) {
  const [near, far] = memoryPair();
  const counted = countBytes(near);
  const opened = seeds && (await seedsOf(...seeds));
  const { sent, files } = await migrate([source("disk", "raw", [bytes])], {
    pair: [counted, far],
    sending: memory ? { memory: site.memory() } : {},
    receiving: site.receiving(opened),
  });
  opened?.close();
  expect(Buffer.compare(files.get("disk").bytes, bytes)).toBe(0);
  return { wire: counted.bytesIn + counted.bytesOut, counters: sent.counters };
}

/** The one folder of a generation that the source has. */
function generationFolder(): string {
  const domain = join(site.state, "sites", "test");
  const [id] = readdirSync(domain);
  const [generation] = readdirSync(join(domain, id!));
  return join(domain, id!, generation!);
}

describe("a second migration", () => {
  test("refers to the log of the first by runs", async () => {
    const disk = Buffer.concat([pages(0, 1500), noise(1)]);
    const cold = await move(disk);
    const warm = await move(disk);
    expect(warm.counters).toEqual({ ...noCounters(), plain: disk.length, deduplicated: disk.length });
    // Frames, headers and the handshake: no digest crosses.
    expect(warm.wire).toBeLessThan(4000);
    expect(cold.wire).toBeGreaterThan(10 * warm.wire);
    // The log of the second is as good as that of the first.
    expect((await move(disk)).wire).toBeLessThan(4000);
  });

  test("of which most is new sends only that", async () => {
    await move(pages(0, 300));
    const { counters } = await move(Buffer.concat([pages(200, 100), pages(1000, 400), pages(0, 50)]));
    expect(counters.deduplicated).toBe(150 * 4096);
    expect(counters.fresh).toBe(400 * 4096);
  });

  test("by a source that remembers nothing learns from a summary", async () => {
    await move(pages(0, 600));
    rmSync(site.state, { recursive: true });
    const { counters, wire } = await move(pages(0, 600));
    expect(counters.deduplicated).toBe(600 * 4096);
    // A digest for each content, and the summary: some 20 bits each.
    expect(wire).toBeLessThan(600 * 40 + 4000);
    const folder = generationFolder();
    expect(readdirSync(folder)).toContain("summary");
  });

  test("uses a summary that is kept, and asks again where it is damaged", async () => {
    await move(pages(0, 600));
    rmSync(site.state, { recursive: true });
    await move(noise(2));
    const summary = join(generationFolder(), "summary");
    const before = readFileSync(summary);
    expect((await move(pages(0, 600))).counters.deduplicated).toBe(600 * 4096);
    expect(Buffer.compare(readFileSync(summary), before)).toBe(0);
    rmSync(generationFolder(), { recursive: true });
    await move(noise(2));
    writeFileSync(join(generationFolder(), "summary"), before.subarray(0, 100));
    expect((await move(pages(0, 600))).counters.deduplicated).toBe(600 * 4096);
  });

  test("with no memory at all is a cold one", async () => {
    await move(pages(0, 100));
    expect((await move(pages(0, 100), { memory: false })).counters.fresh).toBe(100 * 4096);
  });

  test("after contents were removed trusts nothing of before", async () => {
    await move(pages(0, 400));
    const before = generationFolder();
    const layout = await openLayout(site.dir, "test", false);
    const { site: id } = await readIdentity(layout);
    await writeIdentity(layout, { site: id, generation: Buffer.alloc(16, 7) });
    for (const folder of [layout.packs, layout.index, layout.logs])
      for (const name of readdirSync(folder)) rmSync(join(folder, name));
    const { counters } = await move(pages(0, 400));
    expect(counters.fresh).toBe(400 * 4096);
    expect(generationFolder()).not.toBe(before);
  });
});

describe("what the store has lost", () => {
  test.each([
    [
      "a byte of a group's contents",
      (pack: Buffer) => pack.writeUInt8(pack.readUInt8(pack.length - 9) ^ 1, pack.length - 9),
    ],
    ["a byte of a group's digests", (pack: Buffer) => pack.writeUInt8(pack.readUInt8(60) ^ 1, 60)],
    ["everything", (pack: Buffer) => pack.fill(0, 16)],
  ])("is asked of the source: %s", async (_, damage) => {
    await move(pages(0, 300));
    const packs = join(site.dir, "domains", "test", "packs");
    const path = join(packs, readdirSync(packs)[0]!);
    const pack = readFileSync(path);
    damage(pack);
    writeFileSync(path, pack);
    const { wire } = await move(pages(0, 300));
    expect(wire).toBeGreaterThan(4096);
  });

  test("is a whole log", async () => {
    await move(pages(0, 300));
    const logs = join(site.dir, "domains", "test", "logs");
    for (const name of readdirSync(logs))
      writeFileSync(join(logs, name), readFileSync(join(logs, name)).subarray(0, 5000));
    expect((await move(pages(0, 300))).counters.deduplicated).toBe(300 * 4096);
  });
});

describe("seeds", () => {
  test("serve their pages, wherever they lie in the stream", async () => {
    const seed = join(site.folder, "base.raw");
    writeFileSync(seed, Buffer.concat([Buffer.alloc(8192), pages(0, 200)]));
    const { counters } = await move(pages(100, 200), { seeds: [seed] });
    expect(counters.deduplicated).toBe(100 * 4096);
    expect(counters.fresh).toBe(100 * 4096);
  });

  test("that change while they are used cost bytes, and nothing else", async () => {
    const seed = join(site.folder, "base.raw");
    writeFileSync(seed, pages(0, 300));
    const seeds = await seedsOf(seed);
    writeFileSync(seed, Buffer.concat([pages(0, 100), pages(5000, 50)]));
    const { sent, files } = await migrate([source("disk", "raw", [pages(0, 300)])], {
      sending: { memory: site.memory() },
      receiving: site.receiving(seeds),
    });
    seeds.close();
    expect(sent.counters.deduplicated).toBe(300 * 4096);
    expect(Buffer.compare(files.get("disk").bytes, pages(0, 300))).toBe(0);
  });

  test("are digested once, while they stay as they are", async () => {
    const [seed, cache] = [join(site.folder, "base.raw"), join(site.folder, "cache")];
    const { signal } = new AbortController();
    const { Seeds } = await import("../../../core/site/seeds.ts");
    writeFileSync(seed, pages(0, 20));
    const first = await Seeds.open([seed], cache, signal);
    const [name] = readdirSync(cache);
    writeFileSync(join(cache, name!), readFileSync(join(cache, name!)).fill(0, 40, 41));
    const again = await Seeds.open([seed], cache, signal);
    expect([first.count, again.count]).toEqual([20, 20]);
    writeFileSync(seed, pages(0, 21));
    const changed = await Seeds.open([seed], cache, signal);
    expect(changed.count).toBe(21);
    expect(Buffer.compare(changed.key, first.key)).not.toBe(0);
    for (const seeds of [first, again, changed]) seeds.close();
  });
});

describe("a session that is cut", () => {
  test("leaves what has arrived: the next is warm", async () => {
    const disk = Buffer.concat(Array.from({ length: 2000 }, (_, i) => noise(i + 10)));
    const [near, far] = memoryPair();
    const broken = faulty(near, { output: [cutAfter(6_000_000)] });
    const { sent, received } = await migrateBoth([source("disk", "raw", [disk])], {
      pair: [broken, far],
      sending: { memory: site.memory() },
      receiving: site.receiving(),
    });
    expect([sent.status, received.status]).toEqual(["rejected", "rejected"]);
    const { counters } = await move(disk);
    expect(counters.deduplicated).toBeGreaterThan(disk.length / 4);
  });
});

describe("any sessions, one after another", () => {
  test("bring every stream as it was, whatever is lost between them", async () => {
    const part = fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 40 }));
    const run = fc.record({
      disk: fc.array(part, { minLength: 1, maxLength: 6 }),
      memory: fc.boolean(),
      forget: fc.constantFrom("nothing", "state", "logs", "index"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(run, { minLength: 2, maxLength: 4 }), async (runs) => {
        site.remove();
        site = testSite();
        for (const { disk, memory, forget } of runs) {
          await move(Buffer.concat(disk.map(([from, count]) => pages(from, count))), { memory });
          if (forget === "state") rmSync(site.state, { recursive: true, force: true });
          if (forget === "logs" || forget === "index") {
            const folder = join(site.dir, "domains", "test", forget);
            for (const name of readdirSync(folder)) rmSync(join(folder, name));
          }
        }
      }),
      { numRuns: 25 },
    );
  });
});

test("a target that fails leaves the store right", async () => {
  const target = memoryTarget(() => ({ write: () => Promise.reject(new Error("no")) }));
  const { sent } = await migrateBoth([source("disk", "raw", [pages(0, 500)])], {
    sending: { memory: site.memory() },
    receiving: site.receiving(),
    target,
  });
  expect(sent.status).toBe("fulfilled");
  expect((await move(pages(0, 500))).counters.deduplicated).toBeGreaterThan(0);
});

test("a source that can't write down what it sends migrates all the same, and says so", async () => {
  await move(pages(0, 50));
  const said: string[] = [];
  const folder = join(site.folder, "taken");
  writeFileSync(folder, "a file");
  const { siteMemory } = await import("../../../core/site/site-memory.ts");
  const memory = siteMemory({ folder, domain: "test", plain: undefined, warn: (message) => said.push(message) });
  const { files } = await migrate([source("disk", "raw", [pages(0, 80)])], {
    sending: { memory },
    receiving: site.receiving(),
  });
  expect(Buffer.compare(files.get("disk").bytes, pages(0, 80))).toBe(0);
  expect(said.join()).toContain("Nothing is remembered of this migration");
});
