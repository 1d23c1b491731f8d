// What becomes of guests where the link breaks, hangs or falls silent exactly before or after a word of the hand-over.

import type { Passing } from "../../support/handover-relay.ts";
import type { Row, Step } from "../../support/live/row.ts";

const WORDS = ["prepare", "prepared", "loaded", "go", "running", "confirm"] as const;
const AGAIN: Step = { again: 0, with: [] };
const SIGINT: Step = { signal: "SIGINT", to: "migrate" };
const UP: Step = { link: "up" };

/** The link is made again. */
const once = (at: Passing, more: Partial<Row> = {}): Row[] =>
  (["cut", "deliver and cut"] as const).map((deed) => ({
    name: `${deed} ${at}`,
    often: ["loaded", "running"].includes(at) && deed === "cut",
    relay: [{ at, do: deed }],
    ...more,
  }));

/** It isn't, before the tool has given up. */
const forGood = (
  at: Passing,
  deed: "cut" | "deliver and cut",
  steps: readonly Step[],
  more: Partial<Row> = {},
): Row => ({
  name: `${deed} ${at}, for good`,
  place: "launch",
  relay: [{ at, do: deed, forGood: true }],
  steps: [{ at }, { event: { type: "link", state: "reconnecting" }, of: "migrate" }, ...steps],
  ...more,
});
const STAYS: Step[] = [SIGINT, { ends: 130 }, { runs: "source" }, UP, AGAIN];
const UNKNOWN: Step[] = [SIGINT, { ends: 10 }, UP, AGAIN];

export const rows: readonly Row[] = [
  ...WORDS.flatMap((word) => once(word)),
  ...once("open"),
  ...once("open back"),
  ...once("batch"),
  ...once("close"),
  ...once("batch back"),
  ...once("close back"),
  ...(["cut", "deliver and cut", "hold"] as const).map(
    (deed): Row => ({
      name: `${deed} the first batch after the stop`,
      latency: 250,
      relay: [{ at: "batch", do: deed, armed: true }],
      steps: [{ guest: "stopped" }, { relay: "arm" }, { sleep: 200 }, { relay: "release" }],
    }),
  ),
  {
    name: "hold the first batch after the stop, too long",
    latency: 250,
    migrate: ["--switchover-timeout", "1s"],
    relay: [{ at: "batch", do: "hold", armed: true }],
    steps: [{ guest: "stopped" }, { relay: "arm" }, { runs: "source" }, { relay: "release" }, { ends: 5 }],
    where: "source",
  },
  forGood("prepare", "cut", STAYS),
  forGood("prepare", "deliver and cut", STAYS),
  forGood("prepared", "cut", STAYS),
  forGood("loaded", "cut", STAYS),
  // It may hear of the link before it has noted the word.
  forGood("loaded", "deliver and cut", [{ journal: "given", of: "source" }, ...UNKNOWN]),
  forGood("go", "cut", UNKNOWN),
  forGood("go", "deliver and cut", [{ runs: "destination" }, ...UNKNOWN]),
  forGood("running", "cut", [{ runs: "destination" }, ...UNKNOWN]),
  // All that the source has to know it knows.
  forGood("running", "deliver and cut", [SIGINT, { ends: 0 }], { left: { destination: ["taken"] } }),
  forGood("confirm", "cut", [SIGINT, { ends: 0 }], { left: { destination: ["taken"] } }),
  ...WORDS.map(
    (at): Row => ({
      name: `a second's delay of ${at}`,
      relay: [{ at, do: "hold" }],
      steps: [{ at }, { sleep: 1000 }, { relay: "release" }],
    }),
  ),
  {
    name: "silent from go on, until another link is made",
    relay: [{ at: "go", do: "hush" }],
  },
  {
    name: "silent from loaded on, until another link is made",
    migrate: ["--switchover-timeout", "15s"],
    relay: [{ at: "loaded", do: "hush" }],
  },
  {
    name: "silent from loaded on, longer than the guest may stand still",
    // With the 5 s in which the destination is to be told, less than after which another link is made.
    migrate: ["--switchover-timeout", "1s"],
    relay: [{ at: "loaded", do: "hush" }],
    steps: [{ guest: "stopped" }, { ends: 5 }],
    where: "source",
    // The destination is told over the next link, too late for this.
    left: { source: ["aborted"] },
  },
  // No link loses frames. The session fails, by their numbers.
  {
    name: "loaded alone is lost",
    relay: [{ at: "loaded", do: "drop" }],
    steps: [{ ends: 6 }],
    where: "source",
    left: { source: ["aborted"], destination: ["loaded"] },
  },
  ...(["go", "running"] as const).map((at): Row => ({ name: `${at} alone is lost`, relay: [{ at, do: "drop" }] })),
  ...once("cancel", {
    migrate: ["--bandwidth", "2MB"],
    guests: [{ name: "web", source: { dirty: "16M", pattern: "random", private: "4M" } }],
    steps: [{ round: 1 }, SIGINT, { ends: 130 }],
    where: "source",
  }),
  ...(["settle", "settled"] as const).flatMap((at) =>
    (["cut", "deliver and cut"] as const).map(
      (deed): Row => ({
        name: `${deed} ${at}`,
        relay: [
          { at: "go", do: "hold" },
          { at, do: deed },
        ],
        steps: [{ at: "go" }, { kill: "migrate" }, { relay: "release" }, AGAIN],
        left: { sockets: true },
      }),
    ),
  ),
];
