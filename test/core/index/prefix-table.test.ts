import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  isSorted,
  PREFIX_SIZE,
  PrefixTable,
  PrefixTableBuilder,
  prefixIndex,
} from "../../../core/index/prefix-table.ts";
import { digestsOf } from "./compliance.ts";
import { randomWords } from "./words.ts";

const DIGEST = 32;

/** So many digests without a pattern, back to back. */
const randomDigests = (count: number, seed = 1) => new Uint8Array(randomWords(8 * count, seed).buffer);

/** The same, each beginning with what `prefix` says. */
function digestsWith(count: number, prefix: (i: number) => readonly number[]): Uint8Array {
  const digests = randomDigests(count, 77);
  for (let i = 0; i < count; i++) digests.set(prefix(i), i * DIGEST);
  return digests;
}

function tableOf(digests: Uint8Array, payloadSize: 0 | 8 = 0): PrefixTable {
  const builder = new PrefixTableBuilder(payloadSize);
  for (let i = 0; i < digests.length / DIGEST; i++) builder.add(digests, i * DIGEST, i % 65_536, i * 1_000_003);
  return builder.build();
}

const hex = (bytes: Uint8Array, at: number) => Buffer.from(bytes.subarray(at, at + PREFIX_SIZE)).toString("hex");

/** Of each prefix the number of the digest that has it first, in the order of the prefixes. */
function firsts(digests: Uint8Array): [string, number][] {
  const seen = new Map<string, number>();
  for (let i = 0; i < digests.length / DIGEST; i++) {
    const prefix = hex(digests, i * DIGEST);
    if (!seen.has(prefix)) seen.set(prefix, i);
  }
  return [...seen].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Checks everything that a table of these digests, with places, has to say. */
function check(digests: Uint8Array): void {
  const table = tableOf(digests, 8);
  const expected = firsts(digests);
  expect(table.count).toBe(expected.length);
  expect(table.records.length).toBe(expected.length * 28);
  expect(isSorted(table.records, 8)).toBe(true);
  expected.forEach(([prefix, i], index) => {
    const at = table.payloadAt(index);
    const found = table.find(digests, i * DIGEST);
    const right =
      found === index &&
      hex(table.records, at - PREFIX_SIZE) === prefix &&
      table.fileAt(index) === i % 65_536 &&
      table.offsetAt(index) === i * 1_000_003;
    if (!right) throw new Error(`digest ${i} is found at ${found}, expected ${index}`);
  });
}

/** The same table, and how many records its searches look at. */
function counted(table: PrefixTable): { table: PrefixTable; probes: () => number } {
  const size = PREFIX_SIZE + table.payloadSize;
  let probes = 0;
  let last = -1;
  const records = new Proxy(table.records, {
    get(target, key) {
      const record = Math.floor(Number(key) / size);
      if (record >= 0 && record !== last) {
        probes++;
        last = record;
      }
      return target[key as unknown as number];
    },
  });
  return {
    table: new PrefixTable(records, table.payloadSize),
    probes() {
      const result = probes;
      probes = 0;
      last = -1;
      return result;
    },
  };
}

/** Spreads of prefixes as nobody gets them by chance. */
const HOSTILE: [string, Uint8Array][] = [
  ["share 19 bytes", digestsWith(256, (i) => [...new Array(19).fill(9), (i * 7) & 255])],
  ["share 16 bytes", digestsWith(20_000, () => new Array(16).fill(0xab))],
  ["share their first bytes, but for a few", digestsWith(20_000, (i) => (i % 500 ? [0, 0, 0, 0, 0] : []))],
  ["are ever denser towards 0", digestsWith(20_000, (i) => bytesOf(2 ** (60 - (i % 60))))],
  ["are ever denser towards the end", digestsWith(20_000, (i) => bytesOf(2 ** 64 - 2 ** (11 + (i % 50))))],
  [
    "begin with one of two bytes each",
    digestsWith(20_000, (i) => [7, 7, i & 1, 7, (i >> 1) & 1, 7, 7, (i >> 2) & 1, 7]),
  ],
  ["are all the same", digestsWith(20_000, () => new Array(20).fill(3))],
];

function bytesOf(value: number): number[] {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return [...bytes];
}

describe("prefix table", () => {
  test("finds, and keeps the first of, what it was made from, as a map would", () => {
    const byte = fc.oneof(fc.integer({ min: 0, max: 1 }), fc.constantFrom(127, 128, 255));
    const near = fc.array(byte, { minLength: PREFIX_SIZE, maxLength: PREFIX_SIZE });
    const far = fc.uint8Array({ minLength: PREFIX_SIZE, maxLength: PREFIX_SIZE }).map((bytes) => [...bytes]);
    const prefixes = fc.tuple(
      fc.array(fc.oneof(near, far), { maxLength: 60 }),
      fc.array(fc.nat(59), { maxLength: 60 }),
    );
    fc.assert(
      fc.property(prefixes, ([distinct, again]) => {
        const all = [...distinct, ...again.flatMap((i) => (i < distinct.length ? [distinct[i]!] : []))];
        check(digestsWith(all.length, (i) => all[i]!));
      }),
      { numRuns: 300 },
    );
  });

  test("of 100000 digests finds all, and no others", () => {
    const digests = randomDigests(100_000, 2);
    check(digests);
    const table = tableOf(digests);
    expect(table.records.length).toBe(100_000 * PREFIX_SIZE);
    const others = randomDigests(100_000, 3);
    for (let at = 0; at < others.length; at += DIGEST) if (table.has(others, at)) throw new Error(`has ${at}`);
  });

  test.each(HOSTILE)("prefixes that %s are found as well", (_, digests) => check(digests));

  test("looks at few records, of random prefixes", () => {
    const digests = randomDigests(200_000, 4);
    const { table, probes } = counted(tableOf(digests));
    for (let i = 0; i < 1000; i++) table.find(digests, i * 200 * DIGEST);
    expect(probes() / 1000).toBeLessThan(6);
    const others = randomDigests(1000, 5);
    for (let i = 0; i < 1000; i++) table.find(others, i * DIGEST);
    expect(probes() / 1000).toBeLessThan(7);
  });

  test.each(HOSTILE)("looks at 8 more than a binary search does, of prefixes that %s", (_, digests) => {
    const { table, probes } = counted(tableOf(digests));
    const most = 8 + Math.ceil(Math.log2(table.count + 1));
    const near = digests.slice();
    for (let i = 0; i < near.length; i += DIGEST) near[i + PREFIX_SIZE - 1]! ^= 1;
    for (let at = 0; at < digests.length; at += 10 * DIGEST) {
      for (const one of [digests, near]) {
        table.find(one, at);
        const count = probes();
        if (count > most) throw new Error(`looks at ${count} of ${table.count} records`);
      }
    }
  });

  test("looks at all 160 bits, and at no more", () => {
    const digest = randomDigests(1);
    const table = tableOf(digest);
    for (let bit = 0; bit < 8 * DIGEST; bit++) {
      const other = digest.slice();
      other[bit >> 3]! ^= 1 << (bit & 7);
      expect(table.has(other, 0)).toBe(bit >= 8 * PREFIX_SIZE);
    }
  });

  test("takes digests from anywhere in an array, and as they are then", () => {
    const digest = Uint8Array.from({ length: 40 }, (_, i) => i);
    const builder = new PrefixTableBuilder(0);
    for (const at of [3, 0, 8]) builder.add(digest, at);
    digest.fill(0);
    const table = builder.build();
    expect([...table.records].filter((_, i) => i % PREFIX_SIZE === 0)).toEqual([0, 3, 8]);
    const shifted = Uint8Array.from({ length: 50 }, (_, i) => i - 2);
    expect([2, 5, 10, 4].map((at) => table.find(shifted, at))).toEqual([0, 1, 2, -1]);
  });

  test("keeps places of up to 65535 files and 2^48 bytes", () => {
    const places = [
      [0, 0],
      [65_535, 2 ** 48 - 1],
      [256, 2 ** 32],
      [1, 2 ** 32 - 1],
      [255, 0x1234_5678_9abc],
    ] as const;
    const digests = digestsWith(places.length, (i) => [i]);
    const builder = new PrefixTableBuilder(8);
    for (const [i, [file, offset]] of places.entries()) builder.add(digests, i * DIGEST, file, offset);
    const table = builder.build();
    expect(places.map((_, i) => [table.fileAt(i), table.offsetAt(i)])).toEqual(places.map((place) => [...place]));
    const at = table.payloadAt(4);
    expect(Buffer.from(table.records).toString("hex", at, at + 8)).toBe("ff00bc9a78563412");
  });

  test("of nothing is empty; a builder begins again once it has built", () => {
    const builder = new PrefixTableBuilder(0);
    const digests = randomDigests(2);
    expect(builder.build().count).toBe(0);
    expect(builder.build().find(digests, 0)).toBe(-1);
    builder.add(digests, 0);
    const first = builder.build();
    builder.add(digests, DIGEST);
    const second = builder.build();
    expect([first, second].map((table) => [table.count, table.find(digests, 0), table.find(digests, DIGEST)])).toEqual([
      [1, 0, -1],
      [1, -1, 0],
    ]);
  });

  test("records of other sizes, and records that are not ascending, are told", () => {
    expect(() => new PrefixTable(new Uint8Array(39), 0)).toThrow(RangeError);
    expect(() => new PrefixTable(new Uint8Array(40), 8)).toThrow(RangeError);
    const { records } = tableOf(randomDigests(100), 8);
    expect(isSorted(records, 8)).toBe(true);
    expect(isSorted(records.subarray(0, 28), 8)).toBe(true);
    expect(isSorted(records.subarray(0, 0), 8)).toBe(true);
    expect(isSorted(records.subarray(0, 55), 8)).toBe(false);
    for (let i = 0; i + 1 < 100; i++) {
      const swapped = records.slice();
      swapped.set(records.subarray(i * 28, i * 28 + 28), (i + 1) * 28);
      swapped.set(records.subarray((i + 1) * 28, (i + 2) * 28), i * 28);
      expect(isSorted(swapped, 8)).toBe(false);
      const twice = records.slice();
      twice.set(records.subarray(i * 28, i * 28 + PREFIX_SIZE), (i + 1) * 28);
      expect(isSorted(twice, 8)).toBe(false);
    }
  });
});

describe("prefix table as a site index", () => {
  const index = prefixIndex(tableOf(digestsOf([1, 2, 3])));
  const held = async (contents: number[], offset = 0) => {
    const answer = new Uint8Array(contents.length).fill(9);
    await index.lookup(digestsOf(contents, offset), contents.length, answer);
    return [...answer];
  };

  test("holds what the table lists", async () => {
    for (const offset of [0, 1, 4]) expect(await held([3, 4, 1, 1, 5, 2], offset)).toEqual([1, 0, 1, 1, 0, 1]);
    expect(await held([])).toEqual([]);
  });

  test("answers for as many as it is asked for", async () => {
    const answer = Uint8Array.of(9, 9, 9);
    await index.lookup(digestsOf([1, 7, 3]), 2, answer);
    expect([...answer]).toEqual([1, 0, 9]);
  });

  test("notes nothing, and stays as it is", async () => {
    await index.insert(digestsOf([8]), 1);
    await index.close();
    expect(await held([8, 1])).toEqual([0, 1]);
  });
});
