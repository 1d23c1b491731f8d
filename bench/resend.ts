/**
 * What does it cost when dirty pages come again late, and how much memory does that take? A guest of 4 GiB, of which 512 MiB are sent
 * a second time with a few words changed: at once, or after all the rest (3.5 GiB of new contents, 28 windows).
 *
 *     sh cli/bun bench/resend.ts
 */
import { join } from "node:path";
import { type Guest, pagesOfThisMachine, type Run, writeGuest } from "./support/guests.ts";
import { type Run as Measured, megabytes, type Summary, shrinker, table, withFolder } from "./support/run.ts";

const MIB = 1 << 20;
const MEMORY = 4096 * MIB;
const PAGES = MEMORY / 4096;
const DIRTY = PAGES / 8;
const SLICE = 2048;
/** What either end may take: this, and 48 bytes a distinct page. */
const MEMORY_BOUND = 512e6;
const ENTRY_BYTES = 48;

const slices = Array.from({ length: DIRTY / SLICE }, (_, i) => i * SLICE);
const first = (from: number): Run => ({ from, pages: SLICE, version: 0 });
const again = (from: number): Run => ({ from, pages: SLICE, version: 1 });
const rest: Run = { from: DIRTY, pages: PAGES - DIRTY, version: 0 };
const orders: Record<string, Run[]> = {
  "not at all": [...slices.map(first), rest],
  "at once": [...slices.flatMap((from) => [first(from), again(from)]), rest],
  late: [...slices.map(first), rest, ...slices.map(again)],
};

await withFolder(async (folder) => {
  const pages = pagesOfThisMachine(1024 * MIB);
  const stream = join(folder, "guest.qevm");
  const bundle = join(folder, "guest.bundle");
  const rows: [string, Measured & { summary: Summary }, Measured][] = [];
  for (const [order, runs] of Object.entries(orders)) {
    const guest: Guest = { seed: 1, memory: MEMORY, runs, zeros: 0, own: 16 };
    writeGuest(stream, guest, pages);
    const sent = await shrinker("migrate", stream, "--to", `file:${bundle}`, "--force");
    const received = await shrinker("receive", `file:${bundle}`, "--output", join(folder, "out"), "--force");
    rows.push([order, sent, received]);
  }
  const [none, atOnce] = rows.map(([, sent]) => sent.summary.bytes.wire) as [number, number, number];
  table(
    [
      "512 MiB come again",
      "plain MB",
      "new MB",
      "as XOR MB",
      "wire MB",
      "against at once",
      "for the dirty pages",
      "peak at source",
      "peak at destination",
      "bound (MB)",
    ],
    rows.map(([order, { summary, peak }, received]) => {
      const { plain, new: fresh, delta, wire } = summary.bytes;
      const bound = MEMORY_BOUND + (ENTRY_BYTES * fresh) / 4096;
      return [
        order,
        ...[plain, fresh, delta, wire].map(megabytes),
        (wire / atOnce).toFixed(3),
        order === "not at all" ? "" : ((wire - none) / (atOnce - none)).toFixed(3),
        ...[peak, received.peak, bound].map(megabytes),
      ];
    }),
  );
});
