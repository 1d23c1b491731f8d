// What a row must never come to is found where it is so.
import { expect, test } from "bun:test";
import { fakes } from "./fakes.ts";
import { twoAtOnce } from "./history.ts";
import type { End } from "./row.ts";
import type { LiveVm, RunChange } from "./vm.ts";

const never = async () => {};

function vm(end: End, wrong: string[] | undefined, ...changes: RunChange[]): LiveVm {
  const common = { guest: "web", qmp: "", ended: false, stopped: never, arrived: never, gone: never };
  return {
    ...common,
    kill: never,
    stall: never,
    end,
    changes: () => changes,
    running: changes.at(-1)?.runs ?? false,
    wrong: () => wrong,
    said: () => "",
    [Symbol.asyncDispose]: never,
  };
}
const runs = (at: number, sequence?: number): RunChange => ({ runs: true, at, sequence });
const stands = (at: number, sequence?: number): RunChange => ({ runs: false, at, sequence });

test("a guest that runs at both ends, however shortly", () => {
  const source = vm("source", undefined, runs(0), stands(10, 5), runs(20, 5), stands(30, 7));
  expect(twoAtOnce([source, vm("destination", [], runs(30.1, 7))])).toEqual([]);
  expect(twoAtOnce([source, vm("destination", [], runs(12, 5), stands(19, 6))])).toEqual([]);
  expect(twoAtOnce([source, vm("destination", [], runs(29.9, 7))])).toHaveLength(1);
  expect(twoAtOnce([source, vm("destination", [], runs(9, 4), stands(21, 6))])).toHaveLength(2);
});

test("a sequence with a gap, and memory that is wrong", async () => {
  const source = vm("source", undefined, runs(0), stands(10, 5));
  const there = vm("destination", [], runs(20, 5));
  expect(await fakes.history([source, there], {})).toEqual([]);
  expect(await fakes.history([source, there], { corrupt: true })).toEqual(["its memory is right"]);
  expect(await fakes.history([source, vm("destination", [], runs(20, 4))], {})).toHaveLength(1);
  expect(await fakes.history([source, vm("destination", ["1 of 9 pages are wrong"], runs(20, 5))], {})).toHaveLength(1);
});
