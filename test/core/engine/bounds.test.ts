import { describe, expect, test } from "bun:test";
import { batchCost, checkBounds } from "../../../core/engine/bounds.ts";
import { ProtocolError } from "../../../core/errors.ts";
import { COLUMN } from "../../../core/wire/numbers.ts";

/** A header, and columns of these lengths, encoded in as many bytes unless it is said otherwise. */
function check(
  header: { segments?: number; count?: number; plain?: number },
  lengths: Partial<Record<keyof typeof COLUMN, number>>,
  encoded: (length: number) => number = (length) => length,
) {
  const columns = Object.entries(lengths).map(([name, length]) => {
    return { column: COLUMN[name as keyof typeof COLUMN], codec: 0, length, parts: [new Uint8Array(encoded(length))] };
  });
  const whole = {
    stream: 1,
    lane: 0,
    first: 0,
    forget: 0,
    digest: new Uint8Array(32),
    segments: 1,
    count: 0,
    plain: 0,
  };
  checkBounds({ ...whole, ...header }, columns);
}

test("a batch costs 4096, its plain bytes, and 64 a segment", () => {
  expect(batchCost(0, 0)).toBe(4096);
  expect(batchCost(100, 3)).toBe(4096 + 100 + 3 * 64);
});

describe("columns fit their header, and nothing more does:", () => {
  const PAGE = 4096;
  test.each([
    ["operations", { segments: 5 }, { OPS: 5 }, { OPS: 6 }],
    ["literals", { plain: 9 }, { LITERALS: 9 }, { LITERALS: 10 }],
    ["contents", { count: 2, plain: 2 * PAGE }, { CONTENTS: 2 * PAGE }, { CONTENTS: 2 * PAGE + 1 }],
    ["XORs", { count: 1, plain: PAGE }, { DELTAS: PAGE }, { DELTAS: PAGE + 1 }],
    ["stored contents", { count: 1, plain: PAGE }, { STORED: PAGE }, { STORED: PAGE + 1 }],
    ["digests", { count: 3, plain: 3 * PAGE }, { DIGESTS: 96 }, { DIGESTS: 97 }],
    [
      "all of them together",
      { count: 4, plain: 4 * PAGE + 7 },
      { LITERALS: 7, DELTAS: PAGE, CONTENTS: PAGE, STORED: PAGE, DIGESTS: 32 },
      { LITERALS: 7, DELTAS: PAGE, CONTENTS: PAGE, STORED: PAGE, DIGESTS: 64 },
    ],
    [
      "literals beside contents",
      { count: 1, plain: PAGE + 7 },
      { CONTENTS: PAGE, LITERALS: 7 },
      { CONTENTS: PAGE, LITERALS: 8 },
    ],
  ] as const)("%s", (_, header, within, beyond) => {
    check(header, within);
    expect(() => check(header, beyond)).toThrow(ProtocolError);
  });

  test("more contents than plain bytes, and a batch that stands for nothing", () => {
    check({ count: 1, plain: PAGE }, {});
    expect(() => check({ count: 1, plain: PAGE - 1 }, {})).toThrow(ProtocolError);
    expect(() => check({ segments: 0 }, {})).toThrow(ProtocolError);
  });

  test("an encoded column is longer by 1/128 and 64 bytes at most", () => {
    const literals = { LITERALS: 12_800 };
    check({ plain: 12_800 }, literals, (length) => length + 100 + 64);
    expect(() => check({ plain: 12_800 }, literals, (length) => length + 100 + 65)).toThrow(ProtocolError);
  });
});
