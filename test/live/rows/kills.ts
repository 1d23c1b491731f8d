// What becomes of guests where a process is killed, by SIGKILL: the tool at either end, or the VM at either end, in each phase.
import type { Part, Row, Step } from "../../support/live/row.ts";

/** Each phase, held where it is: by a word that does not come, or by a guest that is too busy. */
const PHASES = {
  prepare: { relay: [{ at: "prepared", do: "hold" }], steps: [{ at: "prepared" }] },
  perform: {
    guests: [{ name: "web", source: { dirty: "16M", pattern: "random", private: "4M" } }],
    migrate: ["--bandwidth", "2MB"],
    steps: [{ round: 1 }],
  },
  switchover: {
    guests: [{ name: "web", source: { fail: "stall@switchover" } }],
    steps: [{ guest: "stopped" }],
  },
  loaded: { relay: [{ at: "loaded", do: "hold" }], steps: [{ at: "loaded" }] },
  given: { relay: [{ at: "go", do: "hold" }], steps: [{ at: "go" }] },
  running: { relay: [{ at: "running", do: "hold" }], steps: [{ at: "running" }] },
  confirm: {
    relay: [{ at: "confirm", do: "hold" }],
    steps: [{ at: "confirm" }, { event: { type: "moved" }, of: "migrate" }],
  },
} as const satisfies Record<string, Partial<Row> & { steps: readonly Step[] }>;
type Phase = keyof typeof PHASES;

const AGAIN: Step = { again: 0, with: [] };

function row(phase: Phase, part: Part, then: readonly Step[], more: Partial<Row> = {}): Row {
  const { steps, ...phased }: Partial<Row> & { steps: readonly Step[] } = PHASES[phase];
  const all: Step[] = [...steps, { kill: part }, ...then];
  const name = `${part}, ${phase}`;
  return { name, often: OFTEN.includes(name), place: "launch", ...phased, ...more, steps: all };
}

const LET_GO: Step = { relay: "release" };
const RESTART: Step = { start: "receive" };
const STAYS: Step[] = [{ runs: "source" }, LET_GO, AGAIN];
/** By the process that watches over the tool, which holds the journal meanwhile. */
const TAKEN_BACK: Step[] = [{ journal: "aborted", of: "source" }, ...STAYS];
/** A few. */
const OFTEN = ["migrate, given", "receive, loaded", "destination, given"];
const left = { sockets: true };

export const rows: readonly Row[] = [
  row("prepare", "migrate", TAKEN_BACK, { left }),
  row("perform", "migrate", TAKEN_BACK, { left }),
  row("switchover", "migrate", TAKEN_BACK, { left }),
  row("loaded", "migrate", TAKEN_BACK, { left }),
  row("given", "migrate", [{ runs: "nobody" }, LET_GO, AGAIN], { left }),
  row("running", "migrate", [{ runs: "destination" }, LET_GO, AGAIN], { left }),
  // Its journal is gone, and nobody tells the destination: it keeps its own until another guest of that name comes, or this.
  row("confirm", "migrate", [{ kill: "receive" }, { resolve: "destination", as: "destination" }, RESTART], { left }),

  row("prepare", "receive", [RESTART, { ends: [4, 5] }, ...STAYS], { left }),
  row("perform", "receive", [RESTART, { ends: [4, 5] }, ...STAYS], { left }),
  row("switchover", "receive", [RESTART, { ends: [4, 5] }, ...STAYS], { left }),
  row("loaded", "receive", [RESTART, { ends: [4, 5] }, ...STAYS], { left }),
  row("given", "receive", [RESTART, { ends: 0 }], { left }),
  row("running", "receive", [{ runs: "destination" }, RESTART, { ends: 0 }], { left }),
  row("confirm", "receive", [RESTART, { ends: 0 }], { left: { sockets: true, destination: ["taken"] } }),

  row("prepare", "source", [LET_GO, { ends: 5 }], { where: "nobody" }),
  row("perform", "source", [{ ends: 3 }], { where: "nobody" }),
  row("switchover", "source", [{ ends: 3 }], { where: "nobody" }),
  row("loaded", "source", [LET_GO, { ends: 0 }]),
  row("given", "source", [LET_GO, { ends: 0 }]),
  row("running", "source", [LET_GO, { ends: 0 }]),

  row("prepare", "destination", [LET_GO, { ends: [3, 4, 5] }, ...STAYS]),
  row("perform", "destination", [{ ends: [3, 4, 5] }, ...STAYS]),
  row("switchover", "destination", [{ ends: [3, 4, 5] }, ...STAYS]),
  row("loaded", "destination", [LET_GO, { ends: [3, 4, 5] }, ...STAYS]),
  row("given", "destination", [LET_GO, { ends: [3, 4, 5] }, ...STAYS]),
  row("running", "destination", [LET_GO, { ends: 0 }], { where: "nobody" }),

  {
    ...row("given", "migrate", [
      { kill: "receive" },
      { resolve: "source", as: "source" },
      { runs: "source" },
      { resolve: "destination", as: "source" },
      RESTART,
    ]),
    name: "both tools, given: resolved as the source's",
    often: true,
    where: "source",
    left,
  },
  {
    ...row("given", "migrate", [
      { kill: "receive" },
      { resolve: "source", as: "destination" },
      { resolve: "destination", as: "destination" },
      { runs: "destination" },
      RESTART,
    ]),
    name: "both tools, given: resolved as the destination's",
    often: false,
    left,
  },
  {
    ...row("given", "migrate", [{ kill: "receive" }, LET_GO, RESTART, AGAIN]),
    name: "both tools, given, and both are started again",
    often: false,
    left,
  },
  {
    ...row("running", "migrate", [
      { kill: "receive" },
      { resolve: "destination", as: "source", code: 4 },
      { resolve: "source", as: "destination" },
      { resolve: "destination", as: "destination" },
      RESTART,
    ]),
    name: "both tools, running: not resolved as the source's",
    often: false,
    left,
  },
];
