import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { ShrinkerError } from "../../../core/errors.ts";
import { lockForRemoval } from "../../../core/store/exclusive.ts";
import { Store } from "../../../core/store/store.ts";
import { filesOf, refusal } from "./probe.ts";
import { DOMAIN, machine, range, type TestStore, testStore } from "./stores.ts";

let store: TestStore;
beforeEach(() => {
  store = testStore();
});
afterEach(() => store[Symbol.dispose]());

describe("prune refuses", () => {
  test("snapshots that are not there, and forgets none of the others", async () => {
    await store.keep("a", machine(1, 2, 3));
    const before = filesOf(store);
    const error = await refusal(store.prune({ forget: ["a", "b"] }));
    expect([error.code, error.message]).toEqual(["input", 'There is no snapshot "b" in the store']);
    expect(filesOf(store)).toEqual(before);
  });

  test("while another writes or reads, and they while it prunes", async () => {
    await store.keep("a", machine(...range(0, 300)));
    for (const write of [true, false]) {
      const other = await Store.open(store.dir, { domain: DOMAIN, write });
      const error = await refusal(store.prune({ forget: ["a"] }));
      expect(error.code).toBe("refused");
      expect(error.message).toContain(write ? "writes to the store" : "reads the store");
      await other.close();
    }
    const lock = await lockForRemoval(store.dir, await store.layout());
    for (const write of [true, false])
      expect((await refusal(Store.open(store.dir, { domain: DOMAIN, write }))).code).toBe("refused");
    expect((await refusal(store.prune({ dryRun: true }))).code).toBe("refused");
    expect((await refusal(store.prune())).code).toBe("refused");
    await lock.release();
    expect((await store.prune({ forget: ["a"] })).forgotten).toEqual(["a"]);
  });

  test("to go on once it is interrupted, and leaves no half of a pack", async () => {
    const machines = { a: machine(...range(0, 600)), b: machine(...range(500, 1500)) };
    for (const [name, bytes] of Object.entries(machines)) await store.keep(name, bytes);
    expect((await refusal(store.prune({ signal: AbortSignal.abort() }))).code).toBe("cancelled");
    // Once it writes: the first sight of a new pack ends it.
    const controller = new AbortController();
    const { packs } = await store.layout();
    const watcher = fs.watch(packs, () => controller.abort());
    const interrupted = await store.prune({ forget: ["a"], repack: true, signal: controller.signal }).catch((e) => e);
    watcher.close();
    if (interrupted instanceof ShrinkerError)
      expect([interrupted.code, await store.packs()]).toEqual(["cancelled", [1]]);
    expect(await store.restores("b", machines.b)).toBe(true);
    expect(await store.prune()).toMatchObject({ harmed: [] });
    expect(await store.verify({ readData: true })).toMatchObject({ clean: true, contents: 1000 });
  });

  test.if(process.getuid?.() !== 0)("a store that is read-only, which can be verified", async () => {
    await store.keep("a", machine(...range(0, 300)));
    const { folder } = await store.layout();
    const folders = [folder, ...["packs", "index", "snapshots"].map((name) => join(folder, name))];
    for (const path of folders) fs.chmodSync(path, 0o500);
    try {
      expect((await store.verify({ readData: true })).clean).toBe(true);
      expect(await store.prune({ forget: ["a"], dryRun: true })).toMatchObject({ removed: { contents: 300 } });
      expect((await refusal(store.prune({ forget: ["a"] }))).message).toContain("permission denied");
    } finally {
      for (const path of folders) fs.chmodSync(path, 0o700);
    }
    expect(await store.restores("a", machine(...range(0, 300)))).toBe(true);
  });
});
