import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { ProtocolError } from "../../../core/errors.ts";
import { buildFuseFilter, decodeFuseFilter, type FuseFilter } from "../../../core/index/fuse-filter.ts";
import { encoded, hits, signed, thrown } from "./filters.ts";
import { randomWords } from "./words.ts";

/** Reads an encoding as its description says, and as nobody would who has to be fast. */
function asDescribed(bytes: Buffer, word0: number, word1: number): boolean {
  const u32 = (x: bigint) => x & 0xffff_ffffn;
  const mix = (start: bigint) => {
    let x = u32((start ^ (start >> 16n)) * 0x85eb_ca6bn);
    x = u32((x ^ (x >> 13n)) * 0xc2b2_ae35n);
    return x ^ (x >> 16n);
  };
  const at = (offset: number) => BigInt(bytes.readUInt32LE(offset));
  const [length, segments, seed0, seed1] = [at(12), at(16), at(20), at(24)];
  const [w0, w1] = [BigInt(word0), BigInt(word1)];
  const m = w1 ^ mix(w0 ^ seed0);
  const high = w0 ^ mix(m ^ seed1);
  const low = m ^ mix(high);
  const first = (high * segments * length) >> 32n;
  const second = (first + length) ^ ((low >> 14n) & (length - 1n));
  const third = (first + 2n * length) ^ (low & (length - 1n));
  const bits = bytes[5]!;
  const fingerprint = Number(u32((high ^ u32((low << 16n) | (low >> 16n))) * 0x9e37_79b1n) >> BigInt(32 - bits));
  const f = (slot: bigint) => (bits === 8 ? bytes[32 + Number(slot)]! : bytes.readUInt16LE(32 + 2 * Number(slot)));
  return (f(first) ^ f(second) ^ f(third)) === fingerprint;
}

describe("encoding of a fuse filter", () => {
  test.each([8, 16] as const)("%d bits: is read by what its description says", (bits) => {
    for (const n of [1, 2, 100, 5000]) {
      const keys = randomWords(2 * n, 20 + n);
      const bytes = encoded(buildFuseFilter(keys, bits));
      const probes = Uint32Array.from([...keys.subarray(0, 1000), ...randomWords(20_000, 21)]);
      const read = decodeFuseFilter(bytes);
      let found = 0;
      for (let i = 0; i < probes.length; i += 2) {
        const has = read.has(signed(probes), i);
        if (has !== asDescribed(bytes, probes[i]!, probes[i + 1]!)) throw new Error(`they differ at probe ${i}`);
        if (has) found++;
      }
      expect(found).toBeGreaterThanOrEqual(Math.min(n, 500));
    }
  });

  test("is the same in every release and on every runtime", () => {
    const keys = randomWords(2000, 30);
    const digest = (bits: 8 | 16) =>
      createHash("sha256")
        .update(encoded(buildFuseFilter(keys, bits)))
        .digest("hex");
    expect(digest(8).slice(0, 32)).toBe("49f0aadbb053263a15977a56ceeff266");
    expect(digest(16).slice(0, 32)).toBe("35fcd133ce7d57891f9a3fc1036ffa2f");
  });

  test("is read from anywhere in a buffer, copied, and written as it was", () => {
    for (const bits of [8, 16] as const) {
      const keys = randomWords(500, 31);
      const bytes = encoded(buildFuseFilter(keys, bits));
      for (const offset of [0, 1, 2, 3]) {
        const size = offset + bytes.length + 5;
        const buffer = offset % 2 ? new Uint8Array(size) : Buffer.alloc(size);
        buffer.set(bytes, offset);
        const filter = decodeFuseFilter(buffer.subarray(offset, offset + bytes.length));
        buffer.fill(0);
        expect([filter.bits, filter.count, filter.byteLength]).toEqual([bits, 250, bytes.length]);
        expect(hits(filter, keys)).toBe(250);
        expect(encoded(filter).equals(bytes)).toBe(true);
      }
    }
  });

  test("the parts are the filter's own fingerprints", () => {
    const filter = buildFuseFilter(randomWords(2000, 32), 16);
    expect(filter.encode()[1]!.buffer).toBe(filter.encode()[1]!.buffer);
    expect(filter.encode().reduce((sum, part) => sum + part.length, 0)).toBe(filter.byteLength);
  });
});

describe("a hostile encoding of a fuse filter", () => {
  const good = encoded(buildFuseFilter(randomWords(40, 40), 8));

  /** The same with other fields, and the right checksum. */
  function forged(fields: { [offset: number]: number }, length = good.length): Buffer {
    const bytes = Buffer.alloc(length);
    good.copy(bytes);
    for (const [offset, value] of Object.entries(fields)) {
      const at = Number(offset);
      if (at === 4 || at === 5) bytes.writeUInt8(value, at);
      else if (at === 6) bytes.writeUInt16LE(value, at);
      else bytes.writeUInt32LE(value, at);
    }
    bytes.writeUInt32LE(crc32(bytes.subarray(32), crc32(bytes.subarray(0, 28))), 28);
    return bytes;
  }
  const slots = good.length - 32;
  const [length, segments] = [good.readUInt32LE(12), good.readUInt32LE(16)];

  test("is made by a forger who could also make a right one", () => {
    expect(forged({}).equals(good)).toBe(true);
    expect(decodeFuseFilter(forged({ 20: 1, 24: 2 })).count).toBe(20);
    // Another layout of as many fingerprints is a writer's own choice.
    expect(decodeFuseFilter(forged({ 12: 1, 16: slots - 2 })).byteLength).toBe(good.length);
  });

  const digests = /^A summary of \d+ digests has \d+ fingerprints$/;
  const segment = /^A summary has segments of \d+ fingerprints$/;
  const size = /^A summary of \d+ fingerprints has \d+ bytes of them$/;
  test.each([
    ["a later version", forged({ 4: 2 }), /version 2, expected 1/],
    ["bits of 0", forged({ 5: 0 }), /flags/],
    ["bits of 12", forged({ 5: 12 }), /flags/],
    ["16 bits and half as much as they take", forged({ 5: 16 }), size],
    ["a flag", forged({ 6: 1 }), /flags/],
    ["nothing, in segments", forged({ 8: 0 }), digests],
    ["more digests than fingerprints", forged({ 8: slots + 1 }), digests],
    ["more than 2^28 digests", forged({ 8: 2 ** 28 + 1, 12: 2 ** 18, 16: 1100 }), digests],
    ["many more fingerprints than digests", forged({ 8: 1, 12: 1, 16: 67 }, 32 + 69), digests],
    ["segments of 0", forged({ 12: 0 }), segment],
    ["segments of 0 for nothing", forged({ 8: 0, 12: 0, 16: 0 }, 32), segment],
    ["segments of 3", forged({ 12: 3 }), segment],
    ["segments of 2^19", forged({ 8: 2 ** 20, 12: 2 ** 19, 16: 1 }), segment],
    ["segments of 2^31", forged({ 8: 2 ** 28, 12: 2 ** 31, 16: 1 }), segment],
    ["no segments", forged({ 16: 0 }, 32), digests],
    ["4 billion segments", forged({ 8: 2 ** 28, 16: 0xffff_ffff }), digests],
    ["a segment more", forged({ 16: segments + 1 }), size],
    ["a byte more", forged({}, good.length + 1), size],
    ["a segment's bytes less", forged({}, good.length - length), size],
  ])("%s is refused", (_, bytes, why) => {
    const error = thrown(() => decodeFuseFilter(bytes));
    expect(error).toBeInstanceOf(ProtocolError);
    expect((error as ProtocolError).message).toMatch(why);
  });

  test("cut anywhere, or with any bit turned, it is refused", () => {
    for (let end = 0; end < good.length; end++) {
      const error = thrown(() => decodeFuseFilter(good.subarray(0, end)));
      if (!(error instanceof ProtocolError)) throw new Error(`cut at ${end} it is read`);
    }
    for (let bit = 0; bit < 8 * good.length; bit++) {
      const bytes = Buffer.from(good);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      if (!(thrown(() => decodeFuseFilter(bytes)) instanceof ProtocolError))
        throw new Error(`bit ${bit} is not missed`);
    }
  });

  test("whatever its fields say, it is refused or can be asked", () => {
    const value = fc.oneof(
      fc.nat(300),
      fc.integer({ min: 0, max: 0xffff_ffff }),
      fc.nat(18).map((k) => 2 ** k),
    );
    const fields = fc.record({ 5: fc.constantFrom(8, 16, 9), 8: value, 12: value, 16: value, 20: value, 24: value });
    const probes = signed(randomWords(200, 41));
    let read = 0;
    fc.assert(
      fc.property(fields, fc.nat(2000), (fields, fingerprints) => {
        // Half of them have the length that they claim.
        const claimed = ((fields[16] + 2) * fields[12] * fields[5]) / 8;
        const bytes = forged(fields, 32 + (fingerprints % 2 && claimed < 100_000 ? Math.floor(claimed) : fingerprints));
        let filter: FuseFilter;
        try {
          filter = decodeFuseFilter(bytes);
        } catch (error) {
          if (!(error instanceof ProtocolError)) throw error;
          return;
        }
        read++;
        for (let i = 0; i < probes.length; i += 2) filter.has(probes, i);
        if (!encoded(filter).equals(bytes)) throw new Error("it is not what was read");
      }),
      { numRuns: 5000 },
    );
    expect(read).toBeGreaterThan(0);
  });
});
