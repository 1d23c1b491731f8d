// What becomes of guests where the link is cut or falls silent.
import type { GuestRow, Row, Step } from "../../support/live/row.ts";

/** Takes two seconds to be copied. */
const guests: GuestRow[] = [{ name: "web", source: { dirty: "1M", private: "4M", pattern: "random" } }];
const SLOWLY = ["--bandwidth", "3MB"];
const cut: Step[] = [{ link: "cut" }, { sleep: 250 }];
/** The guest goes on; the tool waits for the link for another while, which its user doesn't. */
const stays = (code: string): Step[] => [
  { event: { type: "failed", where: "source", code }, of: "migrate" },
  { runs: "source" },
  { signal: "SIGINT", to: "migrate" },
  { ends: 130 },
];

export const rows: readonly Row[] = [
  { name: "cut once", guests, migrate: SLOWLY, steps: [{ round: 1 }, ...cut] },
  {
    name: "cut again and again",
    often: true,
    guests,
    migrate: SLOWLY,
    steps: [{ round: 1 }, ...cut, ...cut, ...cut, ...cut],
  },
  {
    name: "away for a second",
    guests,
    migrate: SLOWLY,
    steps: [{ round: 1 }, { link: "down" }, { sleep: 1000 }, { runs: "source" }, { link: "up" }],
  },
  {
    name: "silent for a second",
    guests,
    migrate: SLOWLY,
    steps: [{ round: 1 }, { link: "silent" }, { sleep: 1000 }, { runs: "source" }, { link: "heard" }],
  },
  {
    name: "silent for so long that another is made",
    guests,
    migrate: SLOWLY,
    steps: [
      { round: 1 },
      { link: "silent" },
      { event: { type: "link", state: "reconnecting" }, of: "migrate" },
      { runs: "source" },
      { link: "heard" },
    ],
  },
  {
    name: "away for good: a guest whose time is up stays, and moves another time",
    guests,
    place: "launch",
    migrate: [...SLOWLY, "--timeout", "3s"],
    steps: [{ round: 1 }, { link: "down" }, ...stays("timeout"), { link: "up" }, { again: 0, with: [] }],
  },
  {
    name: "away for good: a guest whose user wants to end stays",
    guests,
    migrate: SLOWLY,
    steps: [{ round: 1 }, { link: "down" }, { signal: "SIGINT", to: "migrate" }, { ends: 130 }],
    where: "source",
    left: { source: ["aborted"], destination: ["prepared"] },
  },
  {
    name: "away for good while the guest stands still",
    place: "launch",
    relay: [{ at: "loaded", do: "cut", forGood: true }],
    steps: [...stays("link"), { link: "up" }, { again: 0, with: [] }],
  },
];
