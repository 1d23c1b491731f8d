/**
 * Does anything get through? Random streams over a session, and recordings that are damaged where checksums tell (bytes) and where
 * they don't (payloads with right checksums), for as long as it is let run. Each case has to end in the bytes that were sent or in a typed error,
 * within 10 seconds. A failure prints its seed and the smallest case that was found.
 *
 *     SECONDS=600 SEED=1 sh cli/bun bench/fuzz.ts
 */
import fc from "fast-check";
import { fixedCodec } from "../core/engine/codec-policy.ts";
import { ShrinkerError } from "../core/errors.ts";
import { cut, lengths, plain } from "../test/core/engine/contents.ts";
import { joinFrames, splitFrames } from "../test/core/engine/wire.ts";
import { memoryTarget, migrate, record, replay, source } from "../test/support/session.ts";

const SECONDS = Number(process.env.SECONDS ?? 60);
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

const streams = fc.array(fc.record({ plain, sizes: lengths }), { minLength: 1, maxLength: 4 });
const codec = fc.constantFrom("zstd", "lz4", "none").map((name) => fixedCodec(name as "zstd"));
const damage = fc.array(
  fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), value: fc.integer({ min: 1, max: 255 }) }),
  {
    minLength: 1,
    maxLength: 8,
  },
);
type Streams = typeof streams extends fc.Arbitrary<infer T> ? T : never;
type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never;

const sources = (chosen: Streams) =>
  chosen.map(({ plain: { format, bytes }, sizes }, i) => source(`s${i}`, format, cut(bytes, sizes)));

function damaged(bytes: Buffer, places: Damage): Buffer {
  const copy = Buffer.from(bytes);
  for (const { at, value } of places) {
    const place = Math.floor(at * (copy.length - 1));
    if (copy.length > 0) copy[place] = copy[place]! ^ value;
  }
  return copy;
}

/** Replays a recording that may be damaged: what lands has to be right, and what fails has to say so. */
async function survives(recording: Buffer, chosen: Streams): Promise<void> {
  const target = memoryTarget();
  try {
    await replay(recording, target);
  } catch (error) {
    if (!(error instanceof ShrinkerError) || error.code === "bug") throw error;
  }
  for (const { info, bytes, ends } of target.all) {
    const sent = chosen[Number(/^s(\d)$/.exec(info.name)?.[1])];
    // A name may be damaged too; what stands under a right one has to be right.
    if (ends.includes("commit") && sent && Buffer.compare(bytes, sent.plain.bytes) !== 0)
      throw new Error(`${info.name} landed wrong`);
  }
}

const questions: Record<string, fc.IAsyncProperty<unknown>> = {
  sessions: fc.asyncProperty(streams, codec, fc.integer({ min: 1, max: 4 }), async (chosen, codec, parallel) => {
    const { files } = await migrate(sources(chosen), { sending: { codec, parallel } });
    chosen.forEach(({ plain: { bytes } }, i) => {
      if (Buffer.compare(files.get(`s${i}`).bytes, bytes) !== 0) throw new Error(`s${i} differs`);
    });
  }),
  "damaged recordings": fc.asyncProperty(streams, codec, damage, async (chosen, codec, places) => {
    await survives(damaged(await record(sources(chosen), { codec }), places), chosen);
  }),
  "recordings with damaged payloads and right checksums": fc.asyncProperty(
    streams,
    codec,
    fc.nat(),
    damage,
    async (chosen, codec, which, places) => {
      const frames = splitFrames(await record(sources(chosen), { codec }));
      const victim = which % frames.length;
      const changed = frames.map(({ type, payload }, i) => ({
        type,
        payload: i === victim ? damaged(Buffer.from(payload), places) : payload,
      }));
      await survives(joinFrames(changed), chosen);
    },
  ),
};

console.log(`seed ${seed}, ${SECONDS} s`);
for (const [name, property] of Object.entries(questions)) {
  const details = await fc.check(property, {
    seed,
    numRuns: Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: (SECONDS * 1000) / Object.keys(questions).length,
    markInterruptAsFailure: false,
  });
  console.log(`${name}: ${details.numRuns} cases${details.failed ? ", failed" : ""}`);
  if (!details.failed) continue;
  console.log(fc.defaultReportMessage(details)?.slice(0, 4000));
  process.exitCode = 1;
}
