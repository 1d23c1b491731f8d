import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { decodeBatch } from "../../../core/wire/batch.ts";
import * as control from "../../../core/wire/control.ts";
import { type Frame, FrameReader } from "../../../core/wire/frame.ts";
import { COLUMN, FRAME } from "../../../core/wire/numbers.ts";
import { OpReader, OpWriter } from "../../../core/wire/ops.ts";
import { CODECS, type CodecName, decoders, encodeBatches } from "../../fixtures/encode.ts";
import {
  DESTINATION,
  EXAMPLE,
  encodeFrames,
  type FixtureFrame,
  RESUME_DESTINATION,
  RESUME_DESTINATION_AGAIN,
  RESUME_SOURCE,
  RESUME_SOURCE_AGAIN,
  RETURNS_DESTINATION,
  RETURNS_SOURCE,
  recording,
  SIGNED,
  SITE_DESTINATION,
  SITE_SOURCE,
  SOURCE,
} from "../../fixtures/frames.ts";
import { BATCHES, PAST_BATCH } from "../../fixtures/operations.ts";
import { textPage } from "../../fixtures/pages.ts";
import { decode } from "./codec/compliance.ts";
import { pieces } from "./pieces.ts";

const fixture = (name: string) => readFileSync(new URL(`../../fixtures/wire-v1/${name}.bin`, import.meta.url));

async function framesOf(name: string): Promise<Frame[]> {
  const reader = new FrameReader(pieces(fixture(name), [1000]), name);
  await reader.preface();
  const frames: Frame[] = [];
  for (let frame = await reader.next(); frame; frame = await reader.next()) frames.push(frame);
  return frames;
}

/** Bytes as arrays of numbers, so that values compare alike whichever kind of array holds them. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array || Array.isArray(value)) return Array.from(value, plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, plain(field)]));
}

function expectFrames(found: readonly Frame[], expected: readonly FixtureFrame[]): void {
  expect(found.map(({ type }) => type)).toEqual(expected.map(({ type }) => type));
  found.forEach(({ payload }, i) => {
    const frame = expected[i]!;
    if ("payload" in frame) expect(Buffer.compare(payload, frame.payload)).toBe(0);
    else expect(plain(control.decodeControl(frame.schema, payload) as object)).toEqual(plain(frame.value));
  });
}

describe("fixtures of version 1", () => {
  test("say every frame that there is", () => {
    const said = new Set(
      [
        ...[SOURCE, DESTINATION, SITE_SOURCE, SITE_DESTINATION, RETURNS_SOURCE, RETURNS_DESTINATION],
        ...[RESUME_SOURCE_AGAIN, RESUME_DESTINATION_AGAIN, EXAMPLE, SIGNED],
      ].flatMap((frames) => frames.map(({ type }) => type)),
    );
    expect([...said].sort()).toEqual(Object.values(FRAME).sort());
  });

  test.each([
    ["source", SOURCE],
    ["destination", DESTINATION],
    ["site-source", SITE_SOURCE],
    ["site-destination", SITE_DESTINATION],
    ["resume-source", RESUME_SOURCE],
    ["resume-source-again", RESUME_SOURCE_AGAIN],
    ["resume-destination", RESUME_DESTINATION],
    ["resume-destination-again", RESUME_DESTINATION_AGAIN],
    ["returns-source", RETURNS_SOURCE],
    ["returns-destination", RETURNS_DESTINATION],
    ["example", EXAMPLE],
    ["signed", SIGNED],
  ])("%s: the frames are read as they were meant, and written as they were", async (name, frames) => {
    expectFrames(await framesOf(name), frames);
    expect(Buffer.compare(encodeFrames(frames), fixture(name))).toBe(0);
  });

  test("the frames of fixed layout are read", async () => {
    const of = async (name: string, type: number) =>
      (await framesOf(name)).find((frame) => frame.type === type)!.payload;
    expect(control.decodeCredit(await of("destination", FRAME.CREDIT))).toEqual({ stream: 1, total: 2 ** 33 + 5 });
    expect(control.decodeNumber(await of("destination", FRAME.WANT))).toBe(3);
    expect(control.decodeNumber(await of("destination", FRAME.RESOLVED))).toBe(2 ** 32);
    const { number, page } = control.decodeContent(await of("source", FRAME.CONTENT));
    expect(number).toBe(3);
    expect(Buffer.compare(page, textPage("held"))).toBe(0);
  });

  test("the pieces of a summary are read, each where it is due", async () => {
    const pieces = (await framesOf("site-destination")).filter(({ type }) => type === FRAME.SUMMARY);
    const [first, second] = pieces.map(({ payload }) => payload) as [Buffer, Buffer];
    expect(control.decodeSummaryPiece(first, 0).bytes.toString()).toBe("summary");
    expect(control.decodeSummaryPiece(second, 7)).toMatchObject({ total: 10 });
    expect(() => control.decodeSummaryPiece(second, 0)).toThrow("SUMMARY");
    expect(() => control.decodeSummaryPiece(first.subarray(0, 8), 0)).toThrow("SUMMARY");
  });

  test.each((Object.keys(CODECS) as CodecName[]).map((name) => [name]))(
    "operations-%s: every header, column and operation is read as it was meant",
    async (codec) => {
      const frames = await framesOf(`operations-${codec}`);
      const payloads = frames.filter(({ type }) => type === FRAME.BATCH).map(({ payload }) => payload);
      expectFrames(frames, recording(payloads));
      expect(payloads).toHaveLength(BATCHES.length);
      const columnDecoders = decoders(codec);
      for (const [i, payload] of payloads.entries()) {
        const { header, columns } = decodeBatch(payload);
        expect(plain(header)).toEqual(plain(BATCHES[i]!.header));
        expect(columns.map(({ column }) => column)).toEqual([...BATCHES[i]!.columns.keys()]);
        for (const { column, codec: used, length, parts } of columns) {
          expect(used).toBe(CODECS[codec]);
          const expected = BATCHES[i]!.columns.get(column)!;
          expect(length).toBe(expected.length);
          const { error, bytes } = await decode(columnDecoders[column]!, Buffer.concat(parts), length);
          expect(error).toBe(undefined);
          expect(Buffer.compare(bytes, expected)).toBe(0);
        }
      }
      for (const decoder of columnDecoders) decoder.close();
    },
  );

  test("operations-none: is written as it was", async () => {
    const bytes = encodeFrames(recording(await encodeBatches("none")));
    expect(Buffer.compare(bytes, fixture("operations-none"))).toBe(0);
  });

  test("operations are read from the columns, and written to the same bytes", () => {
    for (const { header, operations, columns } of [...BATCHES, PAST_BATCH]) {
      const [ops, args] = [columns.get(COLUMN.OPS)!, columns.get(COLUMN.ARGUMENTS)!];
      const reader = new OpReader(ops, args, header.first);
      const writer = new OpWriter(64);
      writer.reset(header.first);
      const found: number[][] = [];
      while (reader.next()) {
        const { code, run, argument } = reader;
        found.push([code, run, argument]);
        for (let i = 0; i < run; i++) {
          if (code === 0) writer.literal(argument);
          else if (code === 1) writer.zero(argument);
          else if (code === 4) writer.ref(argument + i);
          else if (code === 5) writer.ref(argument);
          else if (code === 7) writer.delta(argument);
          else if (code === 8) writer.past(argument + i);
          else writer.content(code);
        }
      }
      writer.finish();
      expect(found).toEqual(operations.map((operation) => [...operation]));
      expect([...writer.ops]).toEqual([...ops]);
      expect([...writer.args]).toEqual([...args]);
    }
  });

  test("the example of docs/wire-format.md is the fixture", () => {
    const page = readFileSync(new URL("../../../docs/wire-format.md", import.meta.url), "utf8");
    const [, block] = /```hex\n(.*?)```/s.exec(page)!;
    const bytes = block!.split("\n").map((line) => line.split("|")[0]!.replaceAll(" ", ""));
    expect(bytes.join("")).toBe(fixture("example").toString("hex"));
    const { segments, plain } = BATCHES[0]!.header;
    expect(page).toContain(`It has ${segments} segments`);
    expect(page).toContain(`and ${plain} plain bytes`);
  });
});
