// Several guests: how many are copied at once, and which of them goes first.
import { expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type ClusterOptions, moveCluster } from "../../../core/handover/source/cluster.ts";
import { decodeSourceWord, machineService } from "../../../core/wire/handover.ts";
import { within } from "../../support/session.ts";
import { failure } from "../machines/nbd/connect.ts";
import { type Destination, type Ends, ends, type Meddle } from "./ends.ts";

const NOTHING_LEFT = { given: [], aborted: [] };

/** @param expected those of them that have a place at the destination */
async function guests(pair: Ends, names: readonly string[], expected = names) {
  const departing = [];
  for (const name of names) {
    await pair.source({ name, socket: name });
    if (expected.includes(name)) await pair.place(name);
    departing.push(await pair.begin());
  }
  return departing;
}

async function reached(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(2);
}

/** The first guest that is given away is not told to go until `held` resolves. */
function holdFirstGo() {
  const held = Promise.withResolvers<void>();
  let given = 0;
  const meddle: Meddle = async ({ from, payload }) => {
    if (from === "source" && decodeSourceWord(payload).type === "go" && given++ === 0) await held.promise;
    return "deliver";
  };
  return { held, meddle };
}

test("while one is handed over the next is copied, and no further one", async () => {
  await using pair = await ends();
  const departing = await guests(pair, ["web", "db", "mail"]);
  const { held, meddle } = holdFirstGo();
  const performed: string[] = [];
  const ended: string[] = [];
  const there = pair.destination();
  const options: ClusterOptions = {
    ...pair.options,
    ...{ parallel: 1, open: () => there.open(meddle) },
    onPhase: (name, phase) => phase === "perform" && performed.push(name),
    onOutcome: ({ name }) => ended.push(name),
  };
  const moving = moveCluster(departing, NOTHING_LEFT, options);
  await within(
    reached(() => ended.includes("db")),
    "second guest",
  );
  await sleep(50);
  expect([performed, ended]).toEqual([["web", "db"], ["db"]]);
  held.resolve();
  const outcomes = await within(moving, "migration");
  expect(performed).toEqual(["web", "db", "mail"]);
  expect(outcomes.map(({ where }) => where)).toEqual(["destination", "destination", "destination"]);
  expect(pair.violations).toEqual([]);
});

test("one that is not taken makes room for the next, though another is handed over", async () => {
  await using pair = await ends();
  const departing = await guests(pair, ["web", "db", "mail"], ["web", "mail"]);
  const { held, meddle } = holdFirstGo();
  const ended: string[] = [];
  const there = pair.destination();
  const options: ClusterOptions = {
    ...pair.options,
    ...{ parallel: 1, open: () => there.open(meddle) },
    onOutcome: ({ name }) => ended.push(name),
  };
  const moving = moveCluster(departing, NOTHING_LEFT, options);
  await within(
    reached(() => ended.includes("mail")),
    "third guest",
  );
  expect(ended).toEqual(["db", "mail"]);
  held.resolve();
  await within(moving, "migration");
  expect(ended).toEqual(["db", "mail", "web"]);
});

test("one that stands still at both ends is asked about at once, while another is copied", async () => {
  await using pair = await ends({ waits: { runMs: 40, settleMs: 40 } });
  const departing = await guests(pair, ["web", "db"]);
  const held = Promise.withResolvers<void>();
  const said: Record<string, number> = {};
  // What is said to the first guest is lost twice, and the other one waits until that one has moved all the same.
  const meddle: Meddle = async ({ from, payload }) => {
    if (from !== "source") return "deliver";
    const { type } = decodeSourceWord(payload);
    said[type] = (said[type] ?? 0) + 1;
    if (type === "prepare" && said[type] === 2) await held.promise;
    return (type === "go" || type === "settle") && said[type] === 1 ? "drop" : "deliver";
  };
  const there = pair.destination();
  const unsettled: string[][] = [];
  const ended: string[] = [];
  const options: ClusterOptions = {
    ...pair.options,
    ...{ parallel: 2, settleMs: 5000, open: () => there.open(meddle) },
    onUnsettled: (names) => unsettled.push([...names]),
    onOutcome: ({ name, where }) => ended.push(`${name}: ${where}`),
  };
  const moving = moveCluster(departing, NOTHING_LEFT, options);
  await within(
    reached(() => ended.length > 0),
    "first guest",
  );
  held.resolve();
  const outcomes = await within(moving, "migration");
  expect(outcomes.map(({ where }) => where)).toEqual(["destination", "destination"]);
  expect(pair.violations).toEqual([]);
  expect([unsettled[0], ended.length]).toEqual([["web"], 2]);
});

test("whoever hears of one throws: all go on", async () => {
  await using pair = await ends();
  const departing = await guests(pair, ["web", "db", "mail"]);
  const { held, meddle } = holdFirstGo();
  const ended: string[] = [];
  const there = pair.destination();
  const options: ClusterOptions = {
    ...pair.options,
    ...{ parallel: 1, open: () => there.open(meddle) },
    onOutcome({ name, where }) {
      ended.push(`${name}: ${where}`);
      if (name === "db") throw new Error("no room for words");
    },
  };
  const moving = failure(moveCluster(departing, NOTHING_LEFT, options));
  await within(
    reached(() => ended.length > 0),
    "second guest",
  );
  await sleep(50);
  expect(ended).toEqual(["db: destination"]);
  held.resolve();
  expect((await within(moving, "migration")).message).toContain("no room for words");
  expect(ended).toEqual(["db: destination", "web: destination", "mail: destination"]);
  expect(pair.violations).toEqual([]);
});

/** Moves a guest; gives what its session was told of hurry, and its phases. */
async function hurries(pair: Ends, there: Destination, switchoverTimeoutMs: number, meddle?: Meddle) {
  const [departing] = await guests(pair, ["web"]);
  const told: string[] = [];
  const open = async () => {
    const link = await there.open(meddle);
    const { sender } = link.session;
    const hurry = sender.hurry.bind(sender);
    sender.hurry = (service) => {
      told.push(service);
      const calm = hurry(service);
      return () => {
        told.push("over");
        calm();
      };
    };
    return link;
  };
  const onPhase = (_: string, phase: string) => void told.push(phase);
  const options = { ...pair.options, switchoverTimeoutMs, open, onPhase };
  const [outcome] = await within(moveCluster([departing!], NOTHING_LEFT, options), "migration");
  const service = machineService(departing!.journal.migration);
  return { where: outcome!.where, told: told.map((what) => (what === service ? "its" : what)) };
}

test("a guest that stands still goes first, until it runs there", async () => {
  await using pair = await ends();
  const { where, told } = await hurries(pair, pair.destination(), 5000);
  expect([where, told]).toEqual(["destination", ["prepare", "perform", "its", "finish", "over", "confirm"]]);
});

test("or here again", async () => {
  await using pair = await ends({ waits: { dropMs: 50 } });
  // The word that it is loaded is lost.
  const meddle: Meddle = async ({ from, number }) => (from === "destination" && number > 1 ? "drop" : "deliver");
  const { where, told } = await hurries(pair, pair.destination(), 200, meddle);
  expect([where, told]).toEqual(["source", ["prepare", "perform", "its", "over"]]);
});
