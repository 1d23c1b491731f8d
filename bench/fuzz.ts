/**
 * Does anything get through? Random streams over sessions, and every parser of test/fuzz with damaged artefacts, in turn, for as long as it
 * is let run. Each case has to end in what is right or in a typed error, within 5 seconds. A failure prints its seed and the
 * smallest case that was found, and the parser's name, by which it can be run alone.
 *
 *     sh cli/bun bench/fuzz.ts --minutes 10 --seed 1 [--only "control frames"]
 */
import { parseArgs } from "node:util";
import fc from "fast-check";
import { fixedCodec } from "../core/engine/codec-policy.ts";
import { cut, lengths, plain } from "../test/core/engine/contents.ts";
import { fuzz, type Parser, parser } from "../test/fuzz/parser.ts";
import { parsers } from "../test/fuzz/parsers.ts";
import { migrate, source } from "../test/support/session.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    only: { type: "string" },
  },
});
const ms = Number(values.minutes) * 60_000;
const seed = Number(values.seed);
if (!(ms > 0) || !Number.isInteger(seed)) throw new Error("expected --minutes N --seed S");

const streams = fc.array(fc.record({ plain, sizes: lengths }), { minLength: 1, maxLength: 4 });
const codec = fc.constantFrom("zstd" as const, "lz4" as const, "none" as const);
const parallel = fc.integer({ min: 1, max: 4 });

/** What is right gets through as it is. */
const sessions = parser(
  "sessions",
  fc.record({ streams, codec, parallel }),
  async ({ streams, codec, parallel }) => {
    const sources = streams.map(({ plain: { format, bytes }, sizes }, i) => source(`s${i}`, format, cut(bytes, sizes)));
    const { files } = await migrate(sources, { sending: { codec: fixedCodec(codec), parallel } });
    streams.forEach(({ plain: { bytes } }, i) => {
      if (Buffer.compare(files.get(`s${i}`).bytes, bytes) !== 0) throw new Error(`s${i} differs`);
    });
  },
  { codes: [], runs: 100, growth: 1024 },
);

const chosen: readonly Parser[] = [sessions, ...parsers].filter(({ name }) => !values.only || name === values.only);
if (chosen.length === 0) throw new Error(`No parser is called "${values.only}"`);
console.log(`seed ${seed}, ${values.minutes} min`);
for (const one of chosen) {
  const { runs, accepted, failure } = await fuzz(one, { seed, runs: 2 ** 31, ms: ms / chosen.length });
  console.log(`${one.name}: ${runs} cases, ${accepted} of them right${failure ? `; failed: ${failure}` : ""}`);
  if (failure) process.exitCode = 1;
}
process.exit();
