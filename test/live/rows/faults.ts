// Every fault that a fake VM can have, at either end (docs/fake.md), and what becomes of its guest.
import type { End, GuestRow, Row, Step } from "../../support/live/row.ts";

/** So busy that there are several passes over its memory. */
const BUSY = { dirty: "32M", pattern: "random", private: "4M", rounds: "4" };

/** One of each end. */
const OFTEN = ["stall@switchover at the source", "die@loaded at the destination"];

function row(end: End, fail: string, steps: readonly Step[], more: Partial<Row> = {}): Row {
  const busy = fail.includes("round") ? BUSY : {};
  const source = { ...busy, ...(end === "source" && { fail }) };
  const guest: GuestRow = { name: "web", source, ...(end === "destination" && { destination: { fail } }) };
  const name = `${fail} at the ${end}`;
  return { name, often: OFTEN.includes(name), guests: [guest], steps, ...more };
}

const RAM = ["setup", "round:1", "round:2"];
const LAST = ["switchover", "device"];
/** It stays, and the next attempt, into another VM, works: a fault happens once. */
const STAYS: Step[] = [{ runs: "source" }, { start: "destination" }, { again: 0, with: [] }];
const dies: Partial<Row> = { where: "nobody" };
const limited: Partial<Row> = { migrate: ["--switchover-timeout", "1s"] };
/** The link breaks when the guest is loaded, so that it has to be let go on at the source. */
const TAKEN_BACK: Partial<Row> = { relay: [{ at: "loaded", do: "cut", forGood: true }] };
const GIVEN_UP: Step[] = [{ signal: "SIGINT", to: "migrate" }, { ends: 130 }];
/** The guest goes on before the tool ends, which waits for the link. */
const GOES_ON: Step[] = [
  { event: { type: "failed", where: "source" }, of: "migrate" },
  { runs: "source" },
  ...GIVEN_UP,
];

/** Until a guest that stalls has stalled, which the user doesn't want to see. */
const stalled = (point: string): Step[] => [
  point === "round:2" ? { round: 2 } : { phase: "perform" },
  { sleep: 300 },
  ...GIVEN_UP,
];

export const rows: readonly Row[] = [
  ...[...RAM, ...LAST].map((point) => row("source", `die@${point}`, [{ ends: [3, 5] }], dies)),
  ...RAM.map((point) => row("source", `stall@${point}`, [...stalled(point), ...STAYS])),
  ...["stall@switchover", "stall@device", "hang@switchover"].map((fail) =>
    row("source", fail, [{ ends: 5 }, ...STAYS], limited),
  ),
  row("source", "refuse@setup", [{ ends: 3 }, ...STAYS]),
  // Nobody lets it go on there: only disks need a pause.
  row("source", "refuse@switchover", [{ ends: 0 }]),
  ...["corrupt@round:1", "corrupt@switchover"].map((fail) =>
    row("source", fail, [{ ends: 0 }], { place: "fake", corrupt: true }),
  ),
  row("source", "late@device", [{ ends: 0 }]),
  row("source", "die@cont", [{ gone: "source" }, ...GIVEN_UP], {
    ...TAKEN_BACK,
    where: "nobody",
    left: { source: ["aborted"], destination: ["loaded"] },
  }),
  // The copy that waits has to be dropped first, which ends its VM.
  ...["refuse@cont", "stall@cont"].map((fail) =>
    row("source", fail, [...GOES_ON, { link: "up" }, { again: 3 }, ...STAYS], TAKEN_BACK),
  ),

  ...[...RAM, ...LAST, "loaded"].map((point) => row("destination", `die@${point}`, [{ ends: [3, 4, 5] }, ...STAYS])),
  ...RAM.map((point) => row("destination", `stall@${point}`, [...stalled(point), ...STAYS])),
  ...[...LAST, "loaded"].map((point) => row("destination", `stall@${point}`, [{ ends: 5 }, ...STAYS], limited)),
  row("destination", "refuse@setup", [{ ends: [3, 4] }, { runs: "source" }, { again: 0 }]),
  row("destination", "refuse@cont", [{ ends: 0 }]),
  row("destination", "late@loaded", [{ ends: 0 }]),
  // The copy ends as its memory is wrong, before the source has heard that it was loaded.
  row("destination", "corrupt@loaded", [{ gone: "destination" }, { relay: "release" }, { ends: [3, 5] }], {
    relay: [{ at: "loaded", do: "hold", optional: true }],
    where: "source",
    corrupt: true,
  }),
  // It was to run, and never did: that only people can tell.
  row(
    "destination",
    "die@cont",
    [
      { gone: "destination" },
      { sleep: 300 },
      { signal: "SIGINT", to: "migrate" },
      { ends: 10 },
      { signal: "SIGTERM", to: "receive" },
      { resolve: "source", as: "source" },
      { resolve: "destination", as: "source" },
    ],
    { where: "source" },
  ),
  // That command is never answered, but another client's is.
  row(
    "destination",
    "stall@cont",
    [
      { event: { type: "guest", state: "taken" }, of: "receive" },
      { sleep: 1500 },
      { kill: "receive" },
      { start: "receive" },
      { ends: 0 },
    ],
    { left: { sockets: true } },
  ),
];
