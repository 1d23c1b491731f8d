import { describe, expect, test } from "bun:test";
import {
  formatBytes,
  formatRate,
  formatSeconds,
  formatShare,
  formatTime,
  parseAge,
  parseCount,
  parseRate,
  parseSize,
} from "../../cli/units.ts";

describe("sizes", () => {
  test.each([
    ["4096", 4096],
    ["512M", 512 * 2 ** 20],
    ["512MiB", 512 * 2 ** 20],
    ["512MB", 512e6],
    ["1.5G", 1.5 * 2 ** 30],
    ["4g", 4 * 2 ** 30],
    ["10 kB", undefined],
    ["2T", 2 * 2 ** 40],
    ["0", undefined],
    ["-1", undefined],
    ["", undefined],
    ["1e9", undefined],
    ["9007199254740993", undefined],
    ["12 M B", undefined],
  ])("%s", (text, bytes) => {
    if (bytes === undefined)
      expect(() => parseSize(text)).toThrow(`Cannot parse "${text}": expected a size such as 512M`);
    else expect(parseSize(text)).toBe(bytes);
  });
});

describe("rates", () => {
  test.each([
    ["100Mbit", 12.5e6],
    ["100Mbit/s", 12.5e6],
    ["1Gbit", 125e6],
    ["64kbit", 8000],
    ["12.5MB", 12.5e6],
    ["12MiB", 12 * 2 ** 20],
    ["12MiB/s", 12 * 2 ** 20],
    ["800bit", 100],
    ["100M", undefined],
    ["100Mb", undefined],
    ["100", undefined],
    ["0Mbit", undefined],
    ["-1Mbit", undefined],
  ])("%s", (text, rate) => {
    if (rate === undefined)
      expect(() => parseRate(text)).toThrow(`Cannot parse "${text}": expected a rate such as 100Mbit`);
    else expect(parseRate(text)).toBe(rate);
  });
});

describe("ages", () => {
  test.each([
    ["45s", 45_000],
    ["90min", 5_400_000],
    ["12h", 43_200_000],
    ["30d", 2_592_000_000],
    ["1.5d", 129_600_000],
    ["2w", 1_209_600_000],
    ["0", 0],
    ["0d", 0],
    ["36525d", 3_155_760_000_000],
    ["36526d", undefined],
    ["1e99d", undefined],
    [`${"9".repeat(400)}d`, undefined],
    ["30", undefined],
    ["5m", undefined],
    ["1y", undefined],
    ["-1d", undefined],
    ["30 d", undefined],
    ["d", undefined],
    ["", undefined],
  ])("%s", (text, age) => {
    if (age === undefined) expect(() => parseAge(text)).toThrow(`Cannot parse "${text}": expected an age such as 30d`);
    else expect(parseAge(text)).toBe(age);
  });
});

test("counts are whole, above 0 and bounded", () => {
  expect(parseCount("8", 64)).toBe(8);
  for (const text of ["0", "65", "1.5", "", "-3", "abc", "99999999999"])
    expect(() => parseCount(text, 64)).toThrow(text);
});

test("what is shown has the same units as what is read", () => {
  expect([0, 999, 1000, 4096, 592_900_000, 999_949_999, 999_960_000, 4.2e12].map(formatBytes)).toEqual([
    "0 B",
    "999 B",
    "1.00 kB",
    "4.10 kB",
    "592.9 MB",
    "999.9 MB",
    "1.00 GB",
    "4.20 TB",
  ]);
  expect(formatRate(12.5e6)).toBe("12.5 MB/s");
  expect([0.42, 12.3, 185, 7805].map(formatSeconds)).toEqual(["0.4 s", "12 s", "3 min 05 s", "2 h 10 min"]);
  expect([formatShare(0, 0), formatShare(206, 1000)]).toEqual(["0.0 %", "20.6 %"]);
  expect([0, 1_769_846_759_999].map(formatTime)).toEqual(["1970-01-01 00:00 UTC", "2026-01-31 08:05 UTC"]);
});
