// Post-copy of real QEMUs by the command at both ends: guests that write faster than the link takes it go on at the destination
// before all of their memory is there, whatever breaks meanwhile.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { qemus } from "../support/live/qemus.ts";
import type { GuestRow, Row, Step } from "../support/live/row.ts";
import { testRows } from "../support/live/table.ts";
import { startTool } from "../support/live/tool.ts";
import type { Machines } from "../support/live/vm.ts";
import { buildGuest } from "../support/qemu/guest.ts";
import { missing } from "../support/qemu/required.ts";

const MIB = 2 ** 20;
const busy = (name: string, pattern: string): GuestRow => ({ name, source: { memory: "32", dirty: "32768", pattern } });
const SLOWLY = ["--bandwidth", "8MB"];
const SWITCH = [...SLOWLY, "--timeout", "1s", "--on-timeout", "postcopy"];

const SWITCHED: Step = { event: { type: "postcopy" }, of: "migrate" };
/** It runs at the destination, which lacks much of its memory. */
const RUNS: Step = { phase: "confirm" };
/** The process that watches over the tool has seen that there is no way back. */
const GUARDED: Step = { journal: "given", of: "source" };
const SIGINT: Step = { signal: "SIGINT", to: "migrate" };
const RECOVER: Step = { again: 0, with: [...SLOWLY, "--recover"] };
const KILLED = { sockets: true };

const rows: readonly Row[] = [
  {
    name: "a guest that is to stay paused",
    migrate: [...SWITCH, "--paused"],
    steps: [SWITCHED, { ends: 0 }, { runs: "nobody" }, { qmp: "cont", to: "destination" }],
  },
  {
    name: "the link is cut, and the user wants to end",
    steps: [SWITCHED, SIGINT, RUNS, { link: "cut" }, { ends: 0 }],
  },
  {
    name: "migrate is killed before it knows that the guest is loaded",
    relay: [{ at: "loaded", do: "hold" }],
    steps: [{ at: "loaded" }, { kill: "migrate" }, { relay: "release" }, GUARDED, { runs: "nobody" }, RECOVER],
    left: KILLED,
  },
  {
    name: "migrate is killed when the guest runs",
    steps: [
      RUNS,
      { kill: "migrate" },
      { resolve: "source", as: "destination", code: 4 },
      { runs: "destination" },
      RECOVER,
    ],
    left: KILLED,
  },
  {
    name: "receive is killed",
    steps: [RUNS, { kill: "receive" }, { start: "receive" }, { ends: 0 }],
    left: KILLED,
  },
  {
    name: "receive is killed, and the destination's QEMU waits for a page",
    steps: [
      ...[RUNS, { kill: "receive" } as const, { stall: "destination" } as const, SIGINT, { sleep: 100 } as const],
      ...[SIGINT, { ends: 130 } as const, { start: "receive" } as const, RECOVER],
    ],
    left: KILLED,
  },
  {
    name: "receive ends, and so does migrate",
    steps: [
      ...[RUNS, { stall: "destination" } as const, { signal: "SIGTERM", to: "receive" } as const, SIGINT],
      ...[{ ends: [10, 130] } as const, { start: "receive" } as const, RECOVER],
    ],
  },
  {
    name: "the link is cut for good",
    steps: [RUNS, { link: "down" }, SIGINT, { sleep: 100 }, SIGINT, { ends: 130 }, { link: "up" }, RECOVER],
    left: KILLED,
  },
  {
    name: "the source's QEMU dies, and with it the guest",
    steps: [
      RUNS,
      { kill: "source" },
      { ends: 10 },
      { kill: "destination" },
      // What it waits for never comes.
      { signal: "SIGTERM", to: "receive" },
      { resolve: "source", as: "destination" },
      { resolve: "destination", as: "source" },
    ],
    where: "nobody",
  },
].map((row) => ({ guests: [busy("web", "counter")], migrate: SWITCH, ...row }) as Row);

describe.skipIf(missing !== undefined)(`post-copy of QEMUs${missing ? ` (skipped: ${missing})` : ""}`, () => {
  let folder: string;
  let made: (Machines & AsyncDisposable) | undefined;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "e2e-postcopy-"));
    made = qemus(await buildGuest(join(folder, "guest")), folder);
  }, 60_000);
  afterAll(async () => {
    await made?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  test("guests of which one writes too fast arrive, and their pages are still known as such", async () => {
    const at = (name: string) => join(folder, name);
    for (const name of ["two", "a", "b"]) mkdirSync(at(name));
    const guests: GuestRow[] = [busy("web", "random"), { name: "db", source: { dirty: "0", memory: "1" } }];
    const ends = ["source", "destination"] as const;
    const vms = await Promise.all(
      guests.map((guest) => Promise.all(ends.map((end) => made!.start(guest, end, at("two"))))),
    );
    const places = vms.flatMap(([, copy]) => ["--vm", `${copy!.guest}=qmp:${copy!.qmp}`]);
    // What is killed leaves the folder of its sockets here.
    const own = { env: { XDG_RUNTIME_DIR: folder } };
    await using receiver = startTool(["receive", "--listen", `unix:${at("link")}`, "--state", at("b"), ...places], own);
    await receiver.until(({ type }) => type === "listening", "listening");
    const sources = vms.map(([source]) => `qmp:${source!.qmp}`);
    const options = ["--bandwidth", "16MB", "--timeout", "15s", "--on-timeout", "postcopy"];
    await using mover = startTool(
      ["migrate", ...sources, "--to", `unix:${at("link")}`, "--state", at("a"), ...options],
      own,
    );
    const { code, stderr } = await mover.result;
    expect([code, stderr]).toEqual([0, ""]);
    const switched = mover.events.filter(({ type }) => type === "postcopy").map(({ name }) => name);
    expect(switched).toEqual(["web"]);
    const { bytes, pages } = mover.events.at(-1) as unknown as Record<"bytes" | "pages", Record<string, number>>;
    // Had the segmenter lost its way when the stream became another, pages would be literals.
    expect(bytes!.literal).toBeLessThan(3 * MIB);
    expect(pages!.deduplicated).toBeGreaterThan(1000);
    for (const pair of vms) expect(await made!.history(pair, {})).toEqual([]);
    await Promise.all(vms.flat().map((vm) => vm[Symbol.asyncDispose]()));
  }, 180_000);

  testRows(rows, { machines: () => made!, atOnce: 2, limit: 300_000 });
});
