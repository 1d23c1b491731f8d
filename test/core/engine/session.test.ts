import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { fixedCodec } from "../../../core/engine/codec-policy.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { type Fault, faulty, fragment, latency } from "../../support/faults.ts";
import { memoryTarget, migrate, record, replay, source } from "../../support/session.ts";
import { cut, lengths, plain } from "./contents.ts";

const streams = fc.array(fc.record({ plain, sizes: lengths, holes: fc.boolean() }), { minLength: 1, maxLength: 5 });
const codec = fc.constantFrom("zstd", "lz4", "none").map((name) => fixedCodec(name as "zstd"));

type Chosen = typeof streams extends fc.Arbitrary<infer T> ? T : never;
const sourcesOf = (chosen: Chosen) =>
  chosen.map(({ plain: { format, bytes }, sizes, holes }, i) => source(`s${i}`, format, cut(bytes, sizes, holes)));

describe("whatever the streams, their pieces, the codec and the link", () => {
  test("what lands is what was sent, and both ends agree on it", async () => {
    const fault: fc.Arbitrary<Fault[]> = fc.oneof(
      fc.constant<Fault[]>([]),
      fc.nat().map((seed) => [fragment(seed, 30_000)]),
      fc.integer({ min: 1, max: 4 }).map((ms) => [latency(ms)]),
    );
    await fc.assert(
      fc.asyncProperty(
        streams,
        codec,
        fault,
        fault,
        fc.integer({ min: 1, max: 5 }),
        async (chosen, codec, out, back, parallel) => {
          const [near, far] = memoryPair();
          const pair = [faulty(near, { output: out, input: back }), far] as const;
          const { sent, received, files } = await migrate(sourcesOf(chosen), { sending: { codec, parallel }, pair });
          chosen.forEach(({ plain: { bytes } }, i) => {
            const { outcomes } = sent;
            const landed = files.get(`s${i}`);
            expect(Buffer.compare(landed.bytes, bytes)).toBe(0);
            expect(landed.ends).toEqual(["commit"]);
            const { stream } = received.streams.find(({ stream }) => stream.info.name === `s${i}`)!;
            const one = outcomes[i]!.sent!;
            expect(outcomes[i]!.error).toBeUndefined();
            expect(Buffer.compare(one.digest, stream.digest)).toBe(0);
            expect(one.counters).toEqual(stream.counters);
            const { plain, zero, deduplicated, fresh, literal, delta } = one.counters;
            expect(plain).toBe(bytes.length);
            expect(zero + deduplicated + fresh).toBe(plain);
            expect(literal + delta).toBeLessThanOrEqual(fresh);
          });
          expect(sent.counters).toEqual(received.counters);
          expect(sent.counters.plain).toBe(chosen.reduce((sum, { plain }) => sum + plain.bytes.length, 0));
        },
      ),
      { numRuns: 40 },
    );
  }, 60_000);

  test("a recording gives it back", async () => {
    await fc.assert(
      fc.asyncProperty(streams, codec, fc.integer({ min: 1, max: 3 }), async (chosen, codec, parallel) => {
        const bundle = await record(sourcesOf(chosen), { codec, parallel });
        const files = memoryTarget();
        const { streams } = await replay(bundle, files);
        expect(streams.every(({ error }) => error === undefined)).toBe(true);
        chosen.forEach(({ plain: { bytes } }, i) => {
          expect(Buffer.compare(files.get(`s${i}`).bytes, bytes)).toBe(0);
        });
      }),
      { numRuns: 25 },
    );
  }, 60_000);
});
