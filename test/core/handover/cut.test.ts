// Wherever the link is cut, and in whatever order the ends are started again: never do two guests run, and in the end one does.
import { describe, expect, test } from "bun:test";
import { listJournals } from "../../../core/handover/journal.ts";
import { within } from "../../support/session.ts";
import { type Destination, ends, type Meddle } from "./ends.ts";

/** Cuts the link at a word, which still arrives or doesn't. */
function cutAt(at: number, delivered: boolean): Meddle {
  return async ({ number }, cut) => {
    if (number < at) return "deliver";
    if (number === at && delivered) {
      // Once it has arrived.
      setTimeout(() => void cut(), 5);
      return "deliver";
    }
    await cut();
    return "drop";
  };
}

/** prepare, prepared, loaded, go, running, confirm. */
const WORDS = 6;
const NAMES = ["prepare", "prepared", "loaded", "go", "running", "confirm"];
const cases = Array.from({ length: WORDS * 2 }, (_, i) => [Math.floor(i / 2), i % 2 === 1] as const);

describe.each([[false], [true]])("where the receiver is started again: %s,", (restarts) => {
  // Before something is loaded there, it only makes the receiver forget.
  test.each(cases.filter(([at]) => !restarts || at >= 2))(
    "a link that is cut at word %d, delivered: %s",
    async (at, delivered) => {
      await using pair = await ends();
      const source = await pair.source();
      const copy = await pair.place();
      let there: Destination = pair.destination();
      const first = await within(pair.migrate(there, { open: () => there.open(cutAt(at, delivered)) }), "migration");
      expect(first).toHaveLength(1);
      const runningThen = [source, copy].filter(({ runState }) => runState === "running").length;
      const { where } = first[0]!;
      const given = NAMES.indexOf("go");
      // A link that is cut after it may have carried the next word as well.
      const early = at < given - 1 || (at === given - 1 && !delivered);
      if (early) expect([where, runningThen]).toEqual(["source", 1]);
      // The word that it runs may have been lost.
      else if (where !== "destination") expect(where).toBe("unknown");

      if (restarts) {
        await there.close();
        there = pair.destination();
        await there.arrivals.recover();
      }
      const settled = await within(pair.settle(there), "settling");
      for (const outcome of settled) expect(outcome.where).not.toBe("unknown");
      await within(there.idle(), "receiver");
      expect(pair.violations).toEqual([]);
      const states = [source.runState, copy.runState];
      expect(states.filter((state) => state === "running")).toHaveLength(1);
      if (at > given || (at === given && delivered)) expect(states).toEqual(["shutdown", "running"]);
      if (early) expect(states[0]).toBe("running");
      expect((await listJournals(pair.a)).map(({ phase }) => phase)).toEqual([]);
      // A source that has ended its journal has nothing more to say: the destination's may stay, and says where the guest is.
      for (const { phase } of await listJournals(pair.b)) expect([phase, states[1]]).toEqual(["taken", "running"]);
    },
  );
});

test("a link that is cut again while it is settled", async () => {
  for (const again of [0, 1, 2, 3, 4]) {
    await using pair = await ends();
    const source = await pair.source();
    const copy = await pair.place();
    const there = pair.destination();
    const cuts = [cutAt(3, false), cutAt(again, again % 2 === 0)];
    const opened: number[] = [];
    const open = () => there.open(cuts[opened.push(opened.length) - 1]);
    const [outcome] = await within(pair.migrate(there, { open, settleMs: 5000 }), "migration");
    expect([again, outcome!.where]).toEqual([again, "destination"]);
    expect([source.runState, copy.runState, pair.violations, pair.starts]).toEqual(["shutdown", "running", [], 1]);
    expect(await listJournals(pair.a)).toEqual([]);
  }
});
