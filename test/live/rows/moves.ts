// Guests move from one fake VM to another through the command at both ends; their rows say how, and what must result.
import type { GuestRow, Row } from "../../support/live/row.ts";

const MIB = 2 ** 20;
const guest = (source: Record<string, string>, more: Partial<GuestRow> = {}): GuestRow[] => [
  { name: "web", source, ...more },
];
/** Of one image and of different seeds: what they share is what they have from it, about 6 MiB of 8 that are not zeros. */
const four = (dirty: string): GuestRow[] =>
  ["web", "db", "ci", "log"].map((name, i) => ({ name, source: { dirty, seed: `${i + 1}` } }));
/** Writes faster than the link takes it. */
const BUSY = { dirty: "16M", pattern: "random", private: "4M" };
const SLOWLY = ["--bandwidth", "2MB"];

export const rows: readonly Row[] = [
  { name: "an idle guest", often: true, guests: guest({ dirty: "0" }), wire: (bytes) => bytes < 6 * MIB },
  { name: "a guest that counts", guests: guest({ dirty: "8M", pattern: "counter" }) },
  { name: "a guest that writes text", often: true, guests: guest({ dirty: "8M", pattern: "text" }) },
  { name: "a guest that writes noise", guests: guest({ dirty: "8M", pattern: "random" }) },
  { name: "a guest of 32 MiB without zeros", guests: guest({ memory: "32M", zero: "0" }) },
  {
    name: "four idle guests, of which the others only send what the first has not",
    guests: four("0"),
    wire: (bytes) => bytes < 14 * MIB,
  },
  { name: "four guests, one after the other", guests: four("2M"), migrate: ["--parallel", "1"] },
  { name: "four guests at once", often: true, guests: four("2M"), migrate: ["--parallel", "4"] },
  { name: "a guest that is paused", guests: guest({}, { paused: true }), paused: true },
  { name: "a guest that is to be paused", migrate: ["--paused"], paused: true },
  { name: "a guest whose VM is kept", migrate: ["--keep-source"], keepsSource: true },
  { name: "into a VM that the receiver starts", place: "launch" },
  { name: "into a VM of the receiver's own", place: "fake" },
  { name: "from a VM of the tool's own", fromFake: true },
  {
    name: "a guest that is too busy stays when its time is up",
    guests: guest(BUSY),
    migrate: [...SLOWLY, "--timeout", "1s"],
    steps: [{ ends: 11 }],
    where: "source",
  },
  {
    name: "a guest that is too busy is stopped when its time is up",
    often: true,
    guests: guest(BUSY),
    migrate: [...SLOWLY, "--timeout", "1s", "--on-timeout", "stop"],
  },
  {
    name: "a guest that is too busy stays when the user wants to end, and moves another time",
    guests: guest(BUSY),
    place: "launch",
    migrate: SLOWLY,
    steps: [
      { round: 1 },
      { signal: "SIGINT", to: "migrate" },
      { ends: 130 },
      { runs: "source" },
      { again: 0, with: ["--timeout", "1s", "--on-timeout", "stop"] },
    ],
  },
  {
    name: "the receiver ends in order while a guest is copied",
    guests: guest(BUSY),
    migrate: SLOWLY,
    steps: [{ round: 1 }, { signal: "SIGTERM", to: "receive" }, { ends: 5 }],
    where: "source",
    left: { source: ["aborted"] },
  },
];
