// Specs of fake VMs are read whole or refused with what is wrong.
import { expect, test } from "bun:test";
import { spec } from "./support.ts";

const MIB = 2 ** 20;

test("a spec is a name and parameters, with defaults for the rest", () => {
  expect(spec("web")).toEqual({
    name: "web",
    memory: 256 * MIB,
    dirty: MIB,
    pattern: "counter",
    base: "base",
    private: 32 * MIB,
    zero: 0.5,
    workingSet: 16 * MIB,
    seed: 1,
    disk: 0,
    rounds: 0,
    faults: [],
  });
  const all =
    "db?memory=1G&dirty=0&pattern=text&base=deb%2012&private=96M&zero=0.25&working-set=8M&seed=9&disk=64M&rounds=5";
  expect(spec(`${all}&fail=die@round:2&fail=late@loaded`)).toEqual({
    name: "db",
    memory: 1024 * MIB,
    dirty: 0,
    pattern: "text",
    base: "deb 12",
    private: 96 * MIB,
    zero: 0.25,
    workingSet: 8 * MIB,
    seed: 9,
    disk: 64 * MIB,
    rounds: 5,
    faults: [
      { kind: "die", point: "round", round: 2 },
      { kind: "late", point: "loaded", round: 0 },
    ],
  });
});

test.each([
  ["", "Cannot call"],
  ["a/b", "Cannot call"],
  ["a?ram=1G", 'Unknown parameter "ram"'],
  ["a?memory=1M&memory=2M", "given twice"],
  ["a?memory=100K", "whole MiB"],
  ["a?memory=17G", "at most 16G"],
  ["a?memory=much", 'memory of fake VM "a": Cannot parse "much"'],
  ["a?pattern=noise", "counter, text, random"],
  ["a?zero=1.5", "a share"],
  ["a?private=200M", "more than its memory"],
  ["a?private=1M&working-set=2M", "raise private"],
  ["a?private=1000", "whole pages"],
  ["a?dirty=2G", "at most 1G"],
  ["a?seed=4294967296", "whole number"],
  ["a?base=%zz", "hexadecimal"],
  ["a?fail=die", "KIND@POINT"],
  ["a?fail=die@round", "KIND@POINT"],
  ["a?fail=die@setup:1", "KIND@POINT"],
  ["a?fail=hang@cont", "hang is for switchover"],
])("%j is refused: %s", (text, message) => {
  expect(() => spec(text)).toThrow(
    expect.objectContaining({ code: "usage", message: expect.stringContaining(message) }),
  );
});
