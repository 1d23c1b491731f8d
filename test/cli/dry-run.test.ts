// Dry runs to a destination that is asked what it holds.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { openLayout } from "../../core/store/layout.ts";
import { cli, startCli } from "../support/cli.ts";
import { PAGE, run, type Shared, shared } from "./shared.ts";

let here: Shared;
const path = (...names: string[]) => here.path(...names);
beforeAll(async () => {
  here = await shared();
}, 30_000);
afterAll(() => here[Symbol.dispose]());

describe("a dry run to a destination", () => {
  const migrate = (to: string, state: string, ...more: string[]) =>
    run("migrate", path("web.raw"), path("db.raw"), "--to", to, "--state", path(state), ...more);

  test("says what a migration to it sends, and leaves nothing there", async () => {
    const store = path("warm-store");
    const output = path("warm");
    await cli(["snapshot", path("base.raw"), "--store", store, "--name", "a"]);
    const listen = ["receive", "--listen", "tcp://127.0.0.1:0", "--output", output, "--store", store];
    await using daemon = startCli(listen);
    const [, to] = (await daemon.said(/listening on (\S+)/)) as unknown as [string, string];
    const { logs, packs } = await openLayout(store, "default", false);
    const before = [readdirSync(logs), readdirSync(packs).map((name) => statSync(join(packs, name)).size)];

    const dry = await migrate(to, "state", "--dry-run");
    expect([dry.code, dry.stderr]).toEqual([0, ""]);
    expect(dry.events.find(({ type }) => type === "asked")).toMatchObject({
      peer: to,
      domain: "default",
      contents: 200,
    });
    expect(dry.summary.dryRun).toBe(true);
    await daemon.said(/nothing landed/);
    expect([readdirSync(logs), readdirSync(packs).map((name) => statSync(join(packs, name)).size)]).toEqual(before);
    expect(readdirSync(output)).toEqual([]);

    const real = await migrate(to, "state");
    expect(real.code).toBe(0);
    expect(real.summary.bytes.deduplicated).toBe(dry.summary.bytes.deduplicated!);
    expect(real.summary.bytes.new).toBe(dry.summary.bytes.new!);
    expect(dry.summary.bytes.deduplicated).toBe((90 + 10) * PAGE);
    // The answers of the destination come on top.
    expect(real.summary.bytes.wire! - dry.summary.bytes.wire!).toBeGreaterThan(0);
    expect(real.summary.bytes.wire! - dry.summary.bytes.wire!).toBeLessThan(2000);

    // What the migration has brought, and what both remember of it.
    const warm = await migrate(to, "state", "--dry-run");
    expect(warm.summary.bytes.wire!).toBeLessThan(3000);
    daemon.kill("SIGTERM");
    expect((await daemon.result).stderr).not.toContain("shrinker:");
  }, 30_000);

  test("to one that holds nothing is as before, and to nobody fails as a migration does", async () => {
    await using daemon = startCli(["receive", "--listen", "tcp://127.0.0.1:0", "--output", path("cold"), "--once"]);
    const [, to] = (await daemon.said(/listening on (\S+)/)) as unknown as [string, string];
    const dry = await migrate(to, "cold-state", "--dry-run");
    const alone = await migrate(`file:${path("x.bundle")}`, "cold-state", "--dry-run");
    expect(dry.code).toBe(0);
    expect(dry.summary.bytes).toEqual(alone.summary.bytes);
    expect((await daemon.result).code).toBe(0);
    expect((await migrate(to, "cold-state", "--dry-run")).code).toBe(5);
    expect((await migrate(to, "cold-state", "--dry-run", "--against", path("base.index"))).code).toBe(2);
  }, 30_000);
});
