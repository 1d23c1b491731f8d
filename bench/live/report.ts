import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Guest } from "../../test/support/qemu/guest.ts";
import { median, megabytes, table } from "../support/run.ts";
import { RAM, WORKLOADS } from "./cluster.ts";
import type { Gaps } from "./measure.ts";
import type { Shape } from "./sites.ts";

export interface Measured {
  /** Bytes on the link, both ways, headers included. */
  readonly wire: number;
  readonly seconds: number;
  /** Of each guest, in the order of `WORKLOADS`. */
  readonly gaps: readonly Gaps[];
  readonly peaks?: { readonly source: number; readonly destination: number };
}

/** All runs of one way over one link. */
export interface Outcome {
  readonly link: string;
  readonly shape: Shape;
  readonly way: string;
  readonly measured: readonly Measured[];
  readonly failures: readonly string[];
}

/** What the numbers are of: programs by version and content. */
export function describeInput({ kernel }: Guest): string {
  const image = readFileSync(kernel);
  // Where the header of a bzImage keeps its version (the kernel's Documentation/arch/x86/boot.rst).
  const at = image.readUInt16LE(0x20e) + 0x200;
  const version = image.toString("latin1", at, at + 100).split(" ")[0];
  const program = readFileSync(new URL("../../test/guest/init.c", import.meta.url));
  const digest = createHash("sha256").update(program).digest("hex").slice(0, 12);
  const qemu = /version (\S+)/.exec(execFileSync("qemu-system-x86_64", ["--version"], { encoding: "utf8" }))?.[1];
  const guests = Object.entries(WORKLOADS).map(
    ([name, { memory, dirty, seed, kind }]) =>
      `${name} (${memory} MiB of ${kind}, ${dirty} KiB/s rewritten, seed ${seed})`,
  );
  return `QEMU ${qemu} (TCG), Linux ${version}, init.c of sha256 ${digest}, ${RAM} MiB of RAM each: ${guests.join("; ")}`;
}

const linkName = ({ rate, delay }: Shape) =>
  `${rate === undefined ? "no limit" : `${rate / 1e6} Mbit/s each way`}, ${2 * delay} ms of round trip added`;

/** Prints a table for each link. */
export function report(input: string, runs: number, outcomes: readonly Outcome[]): void {
  console.log(`Input: ${input}; all ${Object.keys(WORKLOADS).length} at once; ${runs} runs, medians`);
  for (const link of new Set(outcomes.map(({ link }) => link))) {
    const here = outcomes.filter((outcome) => outcome.link === link);
    console.log(`\n${linkName(here[0]!.shape)}\n`);
    reportLink(here);
  }
  for (const { link, way, failures } of outcomes)
    for (const failure of failures) console.log(`\n${way} over ${link} failed: ${failure}`);
}

function reportLink(outcomes: readonly Outcome[]): void {
  const of = (way: string, value: (one: Measured) => number) => {
    const measured = outcomes.find((outcome) => outcome.way === way)?.measured ?? [];
    return measured.length > 0 ? median(measured.map(value)) : Number.NaN;
  };
  const shown = (value: number, digits = 0) => (Number.isNaN(value) ? "" : value.toFixed(digits));
  const ratios = (way: string, value: (one: Measured) => number) =>
    ["plain", "multifd"].map((rival) => shown(of(way, value) / of(rival, value), 3));
  const each = (way: string, kind: keyof Gaps) =>
    Object.keys(WORKLOADS)
      .map((_, i) => shown(of(way, ({ gaps }) => gaps[i]![kind])))
      .join(" / ");
  const guests = Object.keys(WORKLOADS).join(" / ");
  table(
    [
      ...["way", "link MB", "of plain", "of multifd + zstd", "s", "of plain", "of multifd + zstd"],
      ...[`downtime, ms: ${guests}`, "longest gap before, ms", "peak at source, MB", "peak at destination, MB"],
    ],
    outcomes.map(({ way, measured, failures }) => {
      if (measured.length === 0) return [way, "failed", ...Array.from({ length: 9 }, () => "")];
      const wire = (one: Measured) => one.wire;
      const seconds = (one: Measured) => one.seconds;
      const peak = (end: "source" | "destination") => {
        const bytes = of(way, ({ peaks }) => peaks?.[end] ?? Number.NaN);
        return Number.isNaN(bytes) ? "" : megabytes(bytes);
      };
      return [
        failures.length > 0 ? `${way} (${failures.length} runs failed)` : way,
        ...[megabytes(of(way, wire)), ...ratios(way, wire)],
        ...[shown(of(way, seconds), 1), ...ratios(way, seconds)],
        ...[each(way, "downtime"), each(way, "quiet"), peak("source"), peak("destination")],
      ];
    }),
  );
}
