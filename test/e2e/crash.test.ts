// Commands that write to a store are killed at any time: what was there before stays, and what comes next works.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PrefixTableBuilder } from "../../core/index/prefix-table.ts";
import { Store } from "../../core/store/store.ts";
import { DOMAIN, type TestStore, testStore } from "../core/store/stores.ts";
import { sha256 } from "../fixtures/pages.ts";
import { type RunningCli, startCli } from "../support/cli.ts";
import { anyMoment, Image, killAt, mustRun, type Random, randomFrom, runAndKill, SEED } from "./killing.ts";

const PAGE = 4096;
const MIB = 2 ** 20;
/** Of each test; they take a quarter of it. */
const LIMIT = 120_000;
/** Fifty in all. */
const KILLS = { snapshot: 20, receive: 13, prune: 17 };

let folder: string;
let store: TestStore;
let random: Random;
const path = (...names: string[]) => join(folder, ...names);
const domain = (...names: string[]) => join(store.dir, "domains", DOMAIN, ...names);
const inStore = (command: string, ...args: string[]) => [command, ...args, "--store", store.dir, "--domain", DOMAIN];

beforeEach(() => {
  console.log(`CRASH_SEED=${SEED}`);
  random = randomFrom(SEED);
  folder = mkdtempSync(join(tmpdir(), "shrinker-crash-"));
  store = testStore(path("store"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Snapshots that have to be there, with what they hold. */
class Kept {
  readonly #snapshots = new Map<string, Buffer>();
  #number = 0;
  /** Milliseconds that the last one took. */
  took = 0;

  get names(): string[] {
    return [...this.#snapshots.keys()];
  }

  nextName(): string {
    return `snapshot ${++this.#number}`;
  }

  add(name: string, bytes: Buffer): void {
    this.#snapshots.set(name, Buffer.from(bytes));
  }

  forget(name: string): void {
    this.#snapshots.delete(name);
  }

  /** The command that makes a snapshot. */
  command(name: string, bytes: Buffer): string[] {
    writeFileSync(path("image"), bytes);
    return inStore("snapshot", `machine=${path("image")}`, "--name", name, "--quiet");
  }

  async make(bytes: Buffer): Promise<void> {
    const name = this.nextName();
    ({ took: this.took } = await mustRun(this.command(name, bytes)));
    this.add(name, bytes);
  }

  /** Reads every snapshot back; and often one of them by the command, to the disk or not. */
  async check(when: string): Promise<void> {
    for (const [name, bytes] of this.#snapshots)
      if (!(await store.restores(name, bytes))) throw new Error(`"${name}" does not come back ${when}`);
    const name = this.names[Math.floor(random() * this.#snapshots.size)]!;
    const how = random();
    if (how < 0.3) await mustRun(inStore("restore", name, "--dry-run", "--quiet"));
    else if (how < 0.6) {
      await mustRun(inStore("restore", name, "--output", path("restored"), "--force", "--quiet"));
      expect(Buffer.compare(readFileSync(path("restored", "machine")), this.#snapshots.get(name)!)).toBe(0);
    }
  }

  /** All that the store says it has are these. */
  exactly(): void {
    const names = readdirSync(domain("snapshots")).filter((name) => name.endsWith(".snapshot"));
    expect(names.sort()).toEqual(this.names.map((name) => `${name}.snapshot`).sort());
  }
}

function expectTidy(): void {
  const left = ["index", "snapshots"].flatMap((part) => readdirSync(domain(part)));
  expect(left.filter((name) => !/^\d+-\d+\.run$|^snapshot \d+\.snapshot$/.test(name))).toEqual([]);
}

/** Ends a source whose receiver has died, as its user would: it dials again for a minute. */
async function giveUp(source: RunningCli) {
  if (source.child.exitCode === null && source.child.signalCode === null) source.kill("SIGINT");
  return source.result;
}

/** How many distinct pages of an image the store has. */
async function countHeld(image: Buffer): Promise<number> {
  const seen = new PrefixTableBuilder(0);
  for (let at = 0; at + PAGE <= image.length; at += PAGE) {
    const page = image.subarray(at, at + PAGE);
    if (!page.every((byte) => byte === 0)) seen.add(sha256(page), 0);
  }
  const table = seen.build();
  const opened = await Store.open(store.dir, { domain: DOMAIN });
  let held = 0;
  for (let i = 0; i < table.count; i++) {
    const digest = new Uint8Array(32);
    digest.set(table.records.subarray(i * 20, i * 20 + 20));
    if (opened.index.find(digest, 0)) held++;
  }
  await opened.close();
  return held;
}

test(
  `snapshot is killed ${KILLS.snapshot} times: earlier ones come back, and the next one is made`,
  async () => {
    const kept = new Kept();
    const image = new Image(random, 1500);
    for (let i = 0; i < 2; i++) {
      await kept.make(image.bytes);
      image.change(0.3);
    }
    let named = 0;
    for (let kills = 0, tries = 0; kills < KILLS.snapshot; tries++) {
      if (tries > 2 * KILLS.snapshot) throw new Error(`of ${tries} only ${kills} were killed`);
      const name = kept.nextName();
      const moment = anyMoment(random, kept.took * 1.1, 12, [domain("index"), domain("snapshots"), domain("packs")]);
      const killed = await runAndKill(kept.command(name, image.bytes), moment);
      if (killed) kills++;
      if (existsSync(domain("snapshots", `${name}.snapshot`))) {
        kept.add(name, image.bytes);
        named++;
      } else expect(killed).toBe(true);
      await kept.check(`after ${JSON.stringify(moment)}`);
      expect((await store.verify({ readData: random() < 0.3 })).clean).toBe(true);
      // The same machine, or one that has changed again.
      if (random() < 0.5) image.change(0.3);
      await kept.make(image.bytes);
      kept.exactly();
      expectTidy();
      while (kept.names.length > 4) {
        const oldest = kept.names[0]!;
        rmSync(domain("snapshots", `${oldest}.snapshot`));
        kept.forget(oldest);
      }
    }
    console.log(`${named} had their names before they were killed, or ended`);
    await kept.check("in the end");
    expect(await mustRun(inStore("verify", "--read-data", "--quiet"))).toHaveProperty("code", 0);
  },
  LIMIT,
);

describe("a receiver", () => {
  let daemon: RunningCli;
  let address: string;

  async function startReceiver(): Promise<void> {
    const listen = ["--listen", "tcp://127.0.0.1:0", "--output", path("arrived"), "--force", "--no-state"];
    daemon = startCli(inStore("receive", ...listen));
    address = (await daemon.said(/listening on (\S+)/))[1]!;
  }

  const migration = (...more: string[]) => [
    "migrate",
    `machine=${path("image")}`,
    "--to",
    address,
    "--domain",
    DOMAIN,
    "--state",
    path("state"),
    ...more,
  ];

  async function migrate(): Promise<{ deduplicated: number; wire: number; took: number }> {
    const { took, events } = await mustRun(migration("--json"));
    return { ...(events().at(-1)!.bytes as { deduplicated: number; wire: number }), took };
  }

  afterEach(() => daemon[Symbol.asyncDispose]());

  test(
    `is killed ${KILLS.receive} times: snapshots stay, nothing half done has its name, and the next run is warm`,
    async () => {
      const kept = new Kept();
      const image = new Image(random, 2000);
      await kept.make(image.bytes);
      await startReceiver();
      writeFileSync(path("image"), image.bytes);
      let { took } = await migrate();
      let warm = 0;
      for (let kills = 0, tries = 0; kills < KILLS.receive; tries++) {
        if (tries > 2 * KILLS.receive) throw new Error(`of ${tries} only ${kills} were killed`);
        const before = Buffer.from(image.bytes);
        image.change(0.9);
        writeFileSync(path("image"), image.bytes);
        await using running = startCli(migration("--bandwidth", "25MB"));
        const moment = anyMoment(random, took + 250, 20, [domain("packs"), path("arrived")]);
        await killAt(daemon, moment, running.result);
        const { code } = await giveUp(running);
        if (code !== 0) kills++;
        const names = readdirSync(path("arrived")).filter((name) => !name.startsWith("."));
        const landed = readFileSync(path("arrived", "machine"));
        expect(names).toEqual(["machine"]);
        const whole = [image.bytes, ...(code === 0 ? [] : [before])].some((one) => Buffer.compare(one, landed) === 0);
        expect(whole).toBe(true);
        await kept.check("after a receiver was killed");
        expect((await store.verify({ readData: random() < 0.3 })).clean).toBe(true);
        const held = await countHeld(image.bytes);
        await startReceiver();
        const again = await migrate();
        ({ took } = again);
        expect(Buffer.compare(readFileSync(path("arrived", "machine")), image.bytes)).toBe(0);
        // What the last blocks of the two logs had is sent again.
        expect(again.deduplicated).toBeGreaterThanOrEqual((held - 512) * PAGE);
        if (held > 800) warm++;
      }
      console.log(`${warm} were warm`);
    },
    LIMIT,
  );

  test(
    "that is killed when most of a large image has arrived keeps that: the next run is warm",
    async () => {
      const image = new Image(random, (40 * MIB) / PAGE);
      writeFileSync(path("image"), image.bytes);
      await startReceiver();
      await using running = startCli(migration("--bandwidth", "20MB", "--compress", "none"));
      const pack = domain("packs", "00001.pack");
      const arrived = () => statSync(pack, { throwIfNoEntry: false })?.size ?? 0;
      // Noise is most of it, and stored as it is.
      const due = 0.9 * 0.7 * image.bytes.length;
      for (let waits = 0; arrived() < due; waits++) {
        const ended = running.child.exitCode !== null || daemon.child.exitCode !== null;
        if (ended || waits > 3000) throw new Error(`only ${arrived()} bytes have arrived`);
        await sleep(10);
      }
      daemon.child.kill("SIGKILL");
      await daemon.result;
      expect((await giveUp(running)).code).toBe(130);
      expect(readdirSync(path("arrived")).filter((name) => !name.startsWith("."))).toEqual([]);
      await startReceiver();
      const { deduplicated, wire } = await migrate();
      expect(Buffer.compare(readFileSync(path("arrived", "machine")), image.bytes)).toBe(0);
      expect(deduplicated).toBeGreaterThan(0.75 * image.bytes.length);
      expect(wire).toBeLessThan(0.2 * image.bytes.length);
    },
    LIMIT,
  );
});

test(
  `prune is killed ${KILLS.prune} times: what is not forgotten comes back, and another prune leaves nothing damaged`,
  async () => {
    const kept = new Kept();
    const image = new Image(random, 1500);
    const more = async () => {
      image.change(0.35);
      await kept.make(image.bytes);
    };
    for (let i = 0; i < 4; i++) await more();
    let took = kept.took;
    for (let kills = 0, tries = 0; kills < KILLS.prune; tries++) {
      if (tries > 2 * KILLS.prune) throw new Error(`of ${tries} only ${kills} were killed`);
      const name = kept.names[Math.floor(random() * kept.names.length)]!;
      const repack = random() < 0.4 ? ["--repack"] : [];
      const command = inStore("prune", "--forget", name, "--quiet", ...repack);
      const folders = ["", "index", "snapshots", "packs"].map((part) => domain(part));
      const moment = anyMoment(random, took * 1.1, 12, folders);
      if (await runAndKill(command, moment)) kills++;
      if (!existsSync(domain("snapshots", `${name}.snapshot`))) kept.forget(name);
      await kept.check(`after prune ${repack} was killed at ${JSON.stringify(moment)}`);
      const clean = (await store.verify({ readData: true })).clean;
      const forget = kept.names.includes(name) ? ["--forget", name] : [];
      if (forget.length > 0 || !clean || random() < 0.5) {
        ({ took } = await mustRun(inStore("prune", ...forget, "--quiet", ...repack)));
        kept.forget(name);
        expect((await store.verify({ readData: true })).clean).toBe(true);
        expectTidy();
      }
      await more();
      kept.exactly();
    }
    await kept.check("in the end");
    await mustRun(inStore("verify", "--read-data", "--quiet"));
  },
  LIMIT,
);
