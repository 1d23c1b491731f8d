// What a fake guest's memory holds follows from its spec and its sequence number, and every wrong byte is found.
import { describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { PageBitmap } from "../../../../core/machines/fake/bitmap.ts";
import { Guest } from "../../../../core/machines/fake/guest.ts";
import { guestShape, initialPage, rewritePage, versionAfter } from "../../../../core/machines/fake/layout.ts";
import { spec } from "./support.ts";

const PAGE = 4096;

function contents(guest: Guest): Buffer {
  const { memory } = guest;
  const all = Buffer.alloc(memory.pages * PAGE);
  for (let page = 0; page < memory.pages; page++) memory.read(page, all, page * PAGE);
  return all;
}
const distinct = (all: Buffer) =>
  new Set(
    Array.from({ length: all.length / PAGE }, (_, page) => all.toString("latin1", page * PAGE, (page + 1) * PAGE)),
  );

async function runAWhile(guest: Guest): Promise<Guest> {
  guest.start();
  while (guest.sequence < 3) await sleep(5);
  guest.stop();
  return guest;
}

describe("memory", () => {
  const text = "a?memory=2M&private=512K&zero=0.25&seed=7";

  test("is the same for the same spec, whatever its name, and another for another seed or base", () => {
    const one = contents(new Guest(spec(text), false));
    expect(Buffer.compare(contents(new Guest(spec(text.replace("a?", "b?")), false)), one)).toBe(0);
    const shared = (other: string) => {
      const theirs = distinct(contents(new Guest(spec(other), false)));
      return [...distinct(one)].filter((page) => theirs.has(page)).length;
    };
    // One page of zeros, 64 of the BIOS; 256 of the base, 128 private.
    expect(distinct(one).size).toBe(1 + 64 + 256 + 128);
    expect(shared(text.replace("seed=7", "seed=8"))).toBe(1 + 64 + 256);
    expect(shared(`${text}&base=other`)).toBe(1 + 64 + 128);
  });

  test.each(["counter", "text", "random"])(
    "that a guest rewrites by %s is right, until a byte is wrong",
    async (pattern) => {
      const guest = await runAWhile(new Guest(spec(`${text}&dirty=8M&working-set=64K&pattern=${pattern}`), false));
      const fresh = contents(new Guest(spec(`${text}&pattern=${pattern}`), false));
      const now = contents(guest);
      const changed = Array.from({ length: 20 }, (_, page) =>
        now
          .subarray(page * PAGE, (page + 1) * PAGE)
          .reduce((sum, byte, i) => sum + (byte === fresh[page * PAGE + i] ? 0 : 1), 0),
      );
      expect(changed.slice(0, 16).every((count) => count > 0)).toBe(true);
      expect(changed.slice(16)).toEqual([0, 0, 0, 0]);
      if (pattern === "counter") expect(Math.max(...changed)).toBeLessThan(9);
      expect(guest.check()).toEqual({ pages: guest.memory.pages, wrong: 0 });

      const copy = new Guest(spec("copy?memory=2M"), true);
      for (let page = 0; page < guest.memory.pages; page++) copy.memory.store(page, now, page * PAGE);
      copy.restore(guest.state("paused"));
      expect([copy.sequence, copy.check().wrong]).toEqual([guest.sequence, 0]);
      for (const page of [3, 200, 500, 700]) copy.memory.damage(page);
      copy.memory.storeZeros(250);
      expect(copy.check().wrong).toBe(5);
    },
  );
});

test("a version is how often the guest came by", () => {
  const shape = guestShape(spec("a?memory=1M&private=28K&working-set=28K&seed=3&pattern=counter"));
  const words = new Uint32Array(1024);
  const again = new Uint32Array(1024);
  fc.assert(
    fc.property(fc.nat(200), fc.nat(9), (writes, page) => {
      let count = 0;
      for (let write = 0; write < writes; write++) if (write % 7 === page) count++;
      expect(versionAfter(shape, writes, page)).toBe(count);
      // A version does not depend on those before it.
      initialPage(shape, page, words);
      initialPage(shape, page, again);
      for (let version = 1; version <= count; version++) rewritePage(shape, page, version, words);
      if (count > 0) rewritePage(shape, page, count, again);
      expect(words).toEqual(again);
    }),
  );
});

test("a bitmap is a set of pages", () => {
  const pages = fc.array(fc.tuple(fc.boolean(), fc.nat(99)));
  fc.assert(
    fc.property(pages, pages, fc.boolean(), (first, second, all) => {
      const model = new Set<number>();
      const [bitmap, other] = [new PageBitmap(100), new PageBitmap(100)];
      if (all) {
        bitmap.addAll();
        for (let page = 0; page < 100; page++) model.add(page);
      }
      for (const [adds, page] of first) {
        if (adds) model.add(page);
        else model.delete(page);
        if (adds) bitmap.add(page);
        else bitmap.remove(page);
      }
      for (const [, page] of second) {
        model.add(page);
        other.add(page);
      }
      bitmap.takeFrom(other);
      const found: number[] = [];
      for (let page = bitmap.next(0); page >= 0; page = bitmap.next(page + 1)) found.push(page);
      expect(found).toEqual([...model].sort((a, b) => a - b));
      expect([bitmap.count, other.count, other.next(0)]).toEqual([model.size, 0, -1]);
    }),
  );
});
