import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { cutSegments, fillSegment } from "../../../transports/striped/cutter.ts";
import { MAX_SEGMENT, SEGMENT_HEADER_BYTES, writeSegmentHeader } from "../../../transports/striped/format.ts";
import { Joiner } from "../../../transports/striped/joiner.ts";
import { bytesOf, same } from "../helpers.ts";

function header(length: number, number: number): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  writeSegmentHeader(bytes, length, number);
  return bytes;
}

/** What a sender that picks connections by `picks` writes to each. */
function stripe(writes: readonly Uint8Array[], picks: readonly number[], count: number, most: number, first: number) {
  const lanes = Array.from({ length: count }, () => [] as Buffer[]);
  let number = first;
  for (const write of writes) {
    for (const segment of cutSegments([write.subarray(0, 3), write.subarray(3)], most)) {
      const buffer = Buffer.alloc(SEGMENT_HEADER_BYTES + most);
      const pick = picks[(number - first) % picks.length]!;
      lanes[pick % count]!.push(buffer.subarray(0, fillSegment(buffer, segment, number >>> 0)));
      number++;
    }
  }
  return lanes.map((parts) => Buffer.concat([...parts, header(0, number >>> 0)]));
}

/** Gives each connection's bytes in pieces, the connections in the order of `turns`, as far as the joiner wants them. */
function join(joiner: Joiner, lanes: readonly Buffer[], turns: readonly number[], pieces: readonly number[]): Buffer {
  const at = lanes.map(() => 0);
  const got: Uint8Array[] = [];
  for (let turn = 0; !joiner.over; turn++) {
    if (turn > 1e6) throw new Error("it got stuck");
    // Each comes up in time, however seldom it is picked.
    const lane = (turn % 3 === 0 ? turn / 3 : turns[turn % turns.length]!) % lanes.length;
    if (joiner.wants(lane)) {
      const end = Math.min(lanes[lane]!.length, at[lane]! + pieces[turn % pieces.length]!);
      if (end === at[lane]) joiner.close(lane);
      else joiner.give(lane, lanes[lane]!.subarray(at[lane], end));
      at[lane] = end;
    }
    for (let part = joiner.take(); part; part = joiner.take()) got.push(part);
  }
  return Buffer.concat(got);
}

const few = fc.array(fc.nat({ max: 15 }), { minLength: 1, maxLength: 20 });

describe("segments of several connections", () => {
  test("come together in order, whichever way and in whatever pieces they come", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 12 }),
        fc.integer({ min: 2, max: 16 }),
        fc.integer({ min: 1, max: 20 }),
        fc.constantFrom(0, 7, 2 ** 32 - 3),
        few,
        few,
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 }),
        (writes, count, most, first, picks, turns, pieces) => {
          const lanes = stripe(writes, picks, count, most, first);
          expect(same(join(new Joiner(count, "peer", first), lanes, turns, pieces), Buffer.concat(writes))).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("are never copied, nor held beyond a piece a connection", () => {
    const joiner = new Joiner(2, "peer");
    const bytes = bytesOf("late", 1000);
    joiner.give(1, Buffer.concat([header(1000, 1), bytes]));
    expect(joiner.wants(1)).toBe(false);
    expect(joiner.take()).toBe(undefined);
    const early = Buffer.concat([header(2, 0), Buffer.from("ab")]);
    joiner.give(0, early);
    expect(joiner.take()?.buffer).toBe(early.buffer);
    expect(same(joiner.take()!, bytes)).toBe(true);
  });

  test.each([
    ["longer than any", [[header(MAX_SEGMENT + 1, 0)]], /segment of 1048577 bytes/],
    ["again", [[header(1, 0), "a", header(1, 0)]], /segment 0 where 1 is due/],
    [
      "of one number twice",
      [
        [header(1, 1), "a"],
        [header(1, 0), "b", header(1, 1)],
      ],
      /segment 1 where 2 is due/,
    ],
    [
      "backwards",
      [
        [header(1, 2), "a"],
        [header(1, 0), "b", header(1, 1), "c", header(1, 1)],
      ],
      /segment 1 where 2/,
    ],
    ["after the end", [[header(0, 0), header(1, 0)]], /more after the end/],
    [
      "past a gap",
      [
        [header(1, 1), "a"],
        [header(1, 2), "b"],
      ],
      /no segment 0/,
    ],
  ] as const)("%s are refused", (_, lanes, message) => {
    const joiner = new Joiner(2, "peer");
    const work = () => {
      for (const [lane, parts] of lanes.entries()) {
        joiner.give(lane, Buffer.concat(parts.map((part) => Buffer.from(part))));
        while (joiner.take());
      }
    };
    expect(work).toThrow(message);
  });

  test("as long as they may be are taken", () => {
    const joiner = new Joiner(2, "peer");
    joiner.give(0, header(1 << 20, 0));
    expect(joiner.wants(0)).toBe(true);
  });

  test("that never come are missed at the end", () => {
    const joiner = new Joiner(2, "peer");
    for (const lane of [0, 1]) {
      joiner.give(lane, header(0, 1));
      joiner.close(lane);
    }
    expect(() => joiner.over).toThrow(/no segment 0/);
    expect(() => new Joiner(2, "peer").close(0)).toThrow(/before its end/);
  });
});
