// Bundles that leave out what an index lists.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { openLayout, readIdentity, writeIdentity } from "../../core/store/layout.ts";
import { cli } from "../support/cli.ts";
import { expectError, PAGE, page, pages, range, run, type Shared, shared } from "./shared.ts";

let here: Shared;
const path = (...names: string[]) => here.path(...names);
beforeAll(async () => {
  here = await shared();
}, 30_000);
afterAll(() => here[Symbol.dispose]());

describe("a bundle against an index", () => {
  /** Indexes at the destination, makes bundles of web and db at the source; without the index it would be larger. */
  async function bundleAgainst(name: string, ...sources: string[]) {
    const index = path(`${name}.index`);
    const bundle = path(`${name}.bundle`);
    expect((await run("index", ...sources, "-o", index, "--force")).code).toBe(0);
    const make = ["migrate", path("db.raw"), path("web.raw"), "--force", "--to", `file:${bundle}`];
    const cold = (await run(...make)).summary.bytes.wire!;
    const { code, summary } = await run(...make, "--against", index);
    expect(code).toBe(0);
    expect(summary.bytes.wire!).toBeLessThan(cold - 80 * PAGE);
    return { index, bundle, digest: readFileSync(index).subarray(-32).toString("hex") };
  }
  const arrived = (output: string) =>
    ["db.raw", "web.raw"].every((name) => readFileSync(path(output, name)).equals(readFileSync(path(name))));
  const holds = (output: string) => (existsSync(path(output)) ? readdirSync(path(output)) : []);

  test("of files arrives where they are seeds, byte for byte", async () => {
    const { bundle } = await bundleAgainst("seeds", path("base.raw"));
    const receive = ["receive", `file:${bundle}`, "--no-state"];
    expect((await cli([...receive, "--output", path("seeds"), "--seed", path("base.raw")])).code).toBe(0);
    expect([holds("seeds").sort(), arrived("seeds")]).toEqual([["db.raw", "web.raw"], true]);

    const without = await cli([...receive, "--output", path("none")]);
    expectError(without, 3, "--seed FILE");
    const other = await cli([...receive, "--output", path("none"), "--seed", path("web.raw")]);
    expectError(other, 3, '"base.raw" (819200 bytes)');
    expect(holds("none")).toEqual([]);
  });

  test("of a file that has changed since names all that is missing, and leaves nothing", async () => {
    const { bundle, digest } = await bundleAgainst("changed", path("base.raw"));
    mkdirSync(path("now"));
    // 5 is db's, 110 and 130 are web's, 190 is neither's.
    const changed = range(1, 200).map((n) => ([5, 110, 130, 190].includes(n) ? 7000 + n : n));
    writeFileSync(path("now", "base.raw"), pages(...changed));
    for (const more of [[], ["--all-or-nothing"], ["--dry-run"]]) {
      const into = ["--output", path("kept"), "--no-state", "--seed", path("now", "base.raw"), ...more];
      const { code, stderr, events, summary } = await run("receive", `file:${bundle}`, ...into);
      expectError({ code, stderr }, 6, "3 contents");
      expect(stderr).toContain(digest.slice(0, 12));
      expect(summary.ok).toBe(false);
      const missing = events.find(({ type }) => type === "missing") as { digests: string[] };
      expect(missing).toMatchObject({ index: digest, contents: 3 });
      const names = [5, 110, 130].map((n) => createHash("sha256").update(page(n)).digest("hex"));
      expect([...missing.digests].sort()).toEqual(names.sort());
      expect(holds("kept")).toEqual([]);
    }
  });

  test("of a store and files needs both, and the generation unless the store holds what it lists", async () => {
    const sources = ["snapshot:monday", path("db.raw"), ...here.inStore];
    const { bundle } = await bundleAgainst("both", ...sources, "--hold", "1d");
    const unheld = await bundleAgainst("unheld", ...sources);
    const receive = (file: string, output: string, ...more: string[]) =>
      cli(["receive", `file:${file}`, "--no-state", "--seed", path("db.raw"), "--output", path(output), ...more]);
    expect((await receive(bundle, "both", ...here.inStore)).code).toBe(0);
    expect(arrived("both")).toBe(true);
    expectError(await receive(bundle, "both2"), 3, "--store DIR");
    await cli(["snapshot", path("base.raw"), "--store", path("twin-store"), "--name", "a"]);
    expectError(await receive(bundle, "both2", "--store", path("twin-store")), 3, "the store");

    const layout = await openLayout(path("store"), "default", false);
    const { site } = await readIdentity(layout);
    await writeIdentity(layout, { site, generation: Buffer.alloc(16, 9) });
    expectError(await receive(unheld.bundle, "both2", ...here.inStore), 3, "before it was pruned");
    expect(holds("both2")).toEqual([]);
    expect((await receive(bundle, "both3", ...here.inStore)).code).toBe(0);
    expect(arrived("both3")).toBe(true);
  }, 30_000);
});
