// Live migrations of real QEMUs by the command at both ends, by a table. What else may go wrong is tried with fakes (test/live).
import { afterAll, beforeAll, describe } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { qemus } from "../support/live/qemus.ts";
import type { GuestRow, Part, Row, Step } from "../support/live/row.ts";
import { testRows } from "../support/live/table.ts";
import type { Machines } from "../support/live/vm.ts";
import { buildGuest } from "../support/qemu/guest.ts";
import { missing } from "../support/qemu/required.ts";

const MIB = 2 ** 20;
const guest = (source: Record<string, string>, more: Partial<GuestRow> = {}): GuestRow[] => [
  { name: "web", source, ...more },
];
const four = ["web", "db", "ci", "log"].map((name) => ({ name }));
/** Writes faster than the link takes it. */
const BUSY = guest({ dirty: "32768" });
const SLOWLY = ["--bandwidth", "6MB"];
const SIGINT: Step = { signal: "SIGINT", to: "migrate" };
const STOPPED = ["--timeout", "1s", "--on-timeout", "stop"];
const AGAIN: Step = { again: 0, with: STOPPED };

/** Each phase, held where it is. */
const PHASES = {
  prepare: { relay: [{ at: "prepared", do: "hold" }], steps: [{ at: "prepared" }] },
  perform: { guests: BUSY, migrate: SLOWLY, steps: [{ round: 1 }, { sleep: 200 }] },
  switchover: {
    latency: 300,
    relay: [{ at: "batch", do: "hold", armed: true }],
    steps: [{ guest: "stopped" }, { relay: "arm" }, { at: "batch" }],
  },
  finish: { relay: [{ at: "go", do: "hold" }], steps: [{ at: "go" }] },
} as const satisfies Record<string, Partial<Row> & { steps: readonly Step[] }>;

function killed(part: Part, phase: keyof typeof PHASES, then: readonly Step[], more: Partial<Row> = {}): Row {
  const { steps, ...phased }: Partial<Row> & { steps: readonly Step[] } = PHASES[phase];
  const all: Step[] = [...steps, { kill: part }, ...then];
  const tool = part === "migrate" || part === "receive";
  const name = `${tool ? part : `the QEMU at the ${part}`} is killed: ${phase}`;
  return { name, place: "launch", ...phased, ...(tool && { left: { sockets: true } }), ...more, steps: all };
}

const RELEASE: Step = { relay: "release" };
const STAYS: Step[] = [{ runs: "source" }, RELEASE, AGAIN];
/** By the process that watches over the tool, which holds the journal meanwhile. */
const TAKEN_BACK: Step[] = [{ journal: "aborted", of: "source" }, ...STAYS];
const RESTART: Step[] = [{ start: "receive" }, { ends: [4, 5] }, ...STAYS];
const GONE: Step[] = [RELEASE, { ends: [3, 4, 5] }];

const rows: readonly Row[] = [
  { name: "microvm, idle", guests: guest({ dirty: "0" }) },
  { name: "microvm, 2 processors, writing text", guests: guest({ smp: "2", dirty: "8192" }) },
  { name: "pc, writing noise", guests: guest({ machine: "pc", pattern: "random", dirty: "4096" }) },
  {
    name: "q35, 2 processors, counting",
    guests: guest({ machine: "q35", smp: "2", pattern: "counter", dirty: "8192" }),
  },
  { name: "into a QEMU that the receiver starts", place: "launch" },
  // Booted once and started from one stream: what the first sends the others only refer to.
  // What is left of it without a codec, which a fast link may get, says less.
  { name: "four at once", guests: four, migrate: ["--compress", "zstd"], wire: (bytes) => bytes < 60 * MIB },
  {
    name: "a guest that is paused",
    guests: guest({}, { paused: true }),
    steps: [{ ends: 0 }, { qmp: "cont", to: "destination" }],
  },
  {
    name: "a guest that is to be paused",
    migrate: ["--paused"],
    steps: [{ ends: 0 }, { runs: "nobody" }, { qmp: "cont", to: "destination" }],
  },
  { name: "a guest whose QEMU is kept", migrate: ["--keep-source"], keepsSource: true },
  {
    name: "a busy guest stays when the user wants to end",
    guests: BUSY,
    migrate: SLOWLY,
    steps: [{ round: 1 }, SIGINT, { ends: 130 }],
    where: "source",
  },
  {
    name: "a busy guest stays when its time is up",
    guests: BUSY,
    migrate: [...SLOWLY, "--timeout", "1s"],
    steps: [{ ends: 11 }],
    where: "source",
  },
  { name: "a busy guest is stopped when its time is up", guests: BUSY, migrate: [...SLOWLY, ...STOPPED] },
  { name: "the link is cut", migrate: SLOWLY, steps: [{ round: 1 }, { link: "cut" }] },
  {
    name: "the link is cut again and again",
    migrate: SLOWLY,
    steps: [{ round: 1 }, ...Array.from({ length: 4 }, (): Step[] => [{ link: "cut" }, { sleep: 250 }]).flat()],
  },
  { name: "the link is cut before go", relay: [{ at: "go", do: "cut" }] },
  { name: "the link is cut before the word that it runs", relay: [{ at: "running", do: "cut" }] },
  {
    name: "the link is away while the guest stands still",
    place: "launch",
    relay: [{ at: "loaded", do: "cut", forGood: true }],
    steps: [
      { event: { type: "failed", where: "source" }, of: "migrate" },
      { runs: "source" },
      SIGINT,
      { ends: 130 },
      { link: "up" },
      AGAIN,
    ],
  },

  killed("migrate", "prepare", TAKEN_BACK),
  killed("migrate", "perform", TAKEN_BACK),
  killed("migrate", "switchover", TAKEN_BACK),
  killed("migrate", "finish", [{ runs: "nobody" }, RELEASE, AGAIN]),
  killed("receive", "prepare", RESTART),
  killed("receive", "perform", RESTART),
  killed("receive", "switchover", RESTART),
  killed("receive", "finish", [{ start: "receive" }, { ends: 0 }]),
  killed("source", "prepare", GONE, { where: "nobody" }),
  killed("source", "perform", GONE, { where: "nobody" }),
  // Not in the switchover: whether all of the guest has left QEMU by then is a matter of what buffers take; fakes die at a known point.
  killed("source", "finish", [RELEASE, { ends: 0 }]),
  killed("destination", "prepare", [...GONE, ...STAYS]),
  killed("destination", "perform", [...GONE, ...STAYS]),
  killed("destination", "switchover", [...GONE, ...STAYS]),
  killed("destination", "finish", [{ sleep: 500 }, ...GONE, ...STAYS]),
  {
    ...killed("destination", "finish", [...GONE, ...STAYS]),
    name: "the QEMU at the destination is killed: finish, and go comes at once",
  },
];

describe.skipIf(missing !== undefined)(`live migration of QEMUs${missing ? ` (skipped: ${missing})` : ""}`, () => {
  let folder: string;
  let made: (Machines & AsyncDisposable) | undefined;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "e2e-live-"));
    made = qemus(await buildGuest(join(folder, "guest")), folder);
  }, 60_000);
  afterAll(async () => {
    await made?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  testRows(rows, { machines: () => made!, atOnce: 2, limit: 300_000 });
});
