import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { PrefixTableBuilder, prefixIndex } from "../../../core/index/prefix-table.ts";
import { SiteDifference } from "../../../core/site/diff.ts";
import { listView, type SiteView, StreamView } from "../../../core/site/site-view.ts";
import { core } from "../../support/elf-core.ts";
import { known, record, source } from "../../support/session.ts";
import { noise, text } from "../engine/contents.ts";
import { digestOf, PAGE, pages, qemuPages, range, stream, type TestStream, ZERO } from "./streams.ts";

async function viewOf(...streams: readonly TestStream[]): Promise<StreamView> {
  const view = new StreamView();
  for (const { info, pieces } of streams) await view.read(info, pieces());
  return view;
}

/** The difference, with all but `plain`, `literal` and the wire in pages. */
async function compare(view: SiteView, ...streams: readonly TestStream[]) {
  const difference = new SiteDifference(view);
  try {
    await Promise.all(streams.map(({ info, pieces }) => difference.read(info, pieces())));
    const { plain, zero, same, elsewhere, duplicate, fresh, resent, literal, known, wire } = await difference.result();
    expect(plain).toBe(zero + (same ?? 0) + elsewhere + duplicate + fresh + literal);
    const counts = [zero, same, elsewhere, duplicate, fresh, resent].map((bytes) => bytes && bytes / PAGE);
    const [zeros, sames, others, duplicates, news, agains] = counts;
    const found = { zero: zeros, same: sames, elsewhere: others, duplicate: duplicates, fresh: news, resent: agains };
    return { pages: found, known, literal, plain, wire };
  } finally {
    difference.close();
  }
}

const image = (...numbers: number[]) => stream("raw", pages(...numbers));

describe("the pages of an image", () => {
  test("are zero, there, there elsewhere, own duplicates, or new", async () => {
    const view = await viewOf(image(1, 2, 3, ZERO, 5, 6));
    const bytes = Buffer.concat([pages(1, 9, 2, ZERO, 5, 9, 8, ZERO, 1), Buffer.from("tail")]);
    const found = await compare(view, stream("raw", bytes));
    // 1 and 5 where they were; 2, and 1 once more, elsewhere; 9 comes again; 9 and 8 are new.
    const expected = { zero: 2, same: 2, elsewhere: 2, duplicate: 1, fresh: 2, resent: 0 };
    expect(found).toMatchObject({ pages: expected, known: 3, literal: 4 });
    expect(found.wire.digests).toBe(3 * 32);
  });

  test("that are shifted by one are all elsewhere", async () => {
    const numbers = range(10, 1000);
    const view = await viewOf(image(...numbers));
    const shifted = await compare(view, image(7, ...numbers));
    expect(shifted.pages).toMatchObject({ same: 0, elsewhere: 1000, duplicate: 0, fresh: 1 });
    const alike = await compare(view, image(...numbers));
    expect(alike.pages).toMatchObject({ same: 1000, elsewhere: 0, fresh: 0 });
  });

  test("are compared by content alone with a list, or with a stream of another format", async () => {
    const builder = new PrefixTableBuilder(0);
    for (const n of [1, 2]) builder.add(digestOf(n), 0);
    const list = listView([builder.build()]);
    const otherwise = await viewOf(
      stream(
        "qemu",
        qemuPages([
          [0, 1],
          [1, 2],
        ]),
      ),
    );
    for (const view of [list, otherwise]) {
      const { pages, known } = await compare(view, image(1, 3, 2, 3, 1));
      const counts = { zero: 0, same: undefined, elsewhere: 3, duplicate: 1, fresh: 1, resent: 0 };
      expect({ pages, known }).toEqual({ pages: counts, known: 2 });
    }
  });

  test("are classified as a model does", async () => {
    const numbers = fc.array(fc.integer({ min: ZERO, max: 12 }), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(numbers, numbers, async (a, b) => {
        const expected = { zero: 0, same: 0, elsewhere: 0, duplicate: 0, fresh: 0, resent: 0 };
        for (const [i, n] of a.entries()) {
          if (n === ZERO) expected.zero++;
          else if (b[i] === n) expected.same++;
          else if (b.includes(n)) expected.elsewhere++;
          else if (a.indexOf(n) < i) expected.duplicate++;
          else expected.fresh++;
        }
        const { pages, known } = await compare(await viewOf(image(...b)), image(...a));
        expect(pages).toEqual(expected);
        expect(known).toBe(new Set(a.filter((n) => n !== ZERO && b.includes(n))).size);
      }),
      { numRuns: 60 },
    );
  });
});

test("pages of cores are compared by where they lie, to the byte", async () => {
  const memory = pages(1, 2, 3);
  const at = (gap: number) => stream("elf", core([{ gap, memory }]).bytes);
  const view = await viewOf(at(100));
  expect((await compare(view, at(100))).pages).toMatchObject({ same: 3, elsewhere: 0, fresh: 0 });
  expect((await compare(view, at(101))).pages).toMatchObject({ same: 0, elsewhere: 3, fresh: 0 });
  expect((await compare(view, at(100 + PAGE))).pages).toMatchObject({ same: 0, elsewhere: 3 });
});

describe("the pages of a guest", () => {
  test("are compared by their place in memory, wherever they lie in the stream", async () => {
    const view = await viewOf(
      stream(
        "qemu",
        qemuPages(
          [
            [0, 1],
            [1, 2],
            [2, 3],
          ],
          200,
        ),
      ),
    );
    const found = await compare(
      view,
      stream(
        "qemu",
        qemuPages([
          [2, 3],
          [1, 1],
          [0, 2],
          [3, 9],
          [4, 9],
        ]),
      ),
    );
    expect(found.pages).toEqual({ zero: 0, same: 1, elsewhere: 2, duplicate: 1, fresh: 1, resent: 0 });
  });

  test("that the site has in several versions are compared with the last, and each that comes counts", async () => {
    const view = await viewOf(
      stream(
        "qemu",
        qemuPages([
          [0, 1],
          [1, 2],
          [0, 3],
        ]),
      ),
    );
    const found = await compare(
      view,
      stream(
        "qemu",
        qemuPages([
          [0, 1],
          [0, 3],
          [1, 8],
          [1, 2],
          [1, 9],
        ]),
      ),
    );
    // 1 was there once, but not last; 9 is a further version of what came as 8.
    expect(found.pages).toEqual({ zero: 0, same: 2, elsewhere: 1, duplicate: 0, fresh: 2, resent: 1 });
  });
});

describe("several streams", () => {
  test("are compared with those of their names, and count as one for duplicates", async () => {
    const two = (name: string, ...numbers: number[]) => stream("raw", pages(...numbers), { name });
    const view = await viewOf(two("a", 1, 2), two("b", 3, 4));
    const found = await compare(view, two("b", 3, 9), two("a", 3, 2), two("c", 9, 1));
    expect(found.pages).toMatchObject({ same: 2, elsewhere: 2, duplicate: 1, fresh: 1 });
    expect(found.known).toBe(3);
  });
});

describe("what would cross", () => {
  /** A site with every third content, as a view and as a source knows it. */
  const third = () => {
    const builder = new PrefixTableBuilder(0);
    for (let n = 0; n < 3000; n += 3) builder.add(digestOf(n), 0);
    return builder.build();
  };

  test.each([
    ["an image", "raw", Buffer.concat([pages(...range(0, 1500), ...range(500, 100), ZERO), Buffer.from("the end")])],
    ["noise", "raw", Buffer.concat([...range(0, 300).map(noise), pages(...range(0, 900))])],
    ["a guest", "qemu", qemuPages(range(0, 900).map((n) => [n, n % 700] as const))],
  ])("is what a recording takes, within a few percent: %s", async (_, format, bytes) => {
    const table = third();
    const { wire } = await compare(listView([table]), stream(format, bytes));
    const site = known(prefixIndex(table));
    const recorded = await record([source("disk", format, [bytes])], { site, windowLog: 27 });
    expect(wire.error).toBe(0);
    expect(Math.abs(wire.total - recorded.length)).toBeLessThan(recorded.length * 0.03 + 600);
    expect(wire.total).toBe(
      Math.round(wire.contents.ratio * wire.contents.total + wire.literals.ratio * wire.literals.total) +
        wire.digests +
        wire.frames,
    );
  });

  test("is told with an error where it was only sampled", async () => {
    // 100 MiB, of which whole units compress and others do not.
    const many: TestStream = {
      info: { name: "disk", format: "raw" },
      async *pieces() {
        for (let unit = 0; unit < 100; unit++) {
          const make = Math.imul(unit, 0x9e37_79b1) & 0x4000_0000 ? text : noise;
          yield { bytes: new Uint8Array(Buffer.concat(range(unit * 256, 256).map(make))) };
        }
      },
    };
    const { wire, pages: found } = await compare(listView([]), many);
    expect(found.fresh).toBe(25_600);
    expect(wire.contents.units).toBeGreaterThan(32);
    expect(wire.contents.units).toBeLessThanOrEqual(64);
    expect(wire.error).toBeGreaterThan(0);
    const truth = range(0, 100).filter((unit) => !(Math.imul(unit, 0x9e37_79b1) & 0x4000_0000)).length << 20;
    expect(Math.abs(wire.total - truth)).toBeLessThan(4 * wire.error);
  }, 30_000);
});
