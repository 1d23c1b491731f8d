import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { SharedStore } from "../../../core/site/shared-store.ts";
import { Store } from "../../../core/store/store.ts";
import { DOMAIN, failure, range, type TempFolder, tempFolder } from "../store/contents.ts";
import { lockElsewhere } from "../store/lock-holder.ts";
import { heldBy, put } from "../store/use.ts";

let folder: TempFolder;
let dir: string;
beforeEach(() => {
  folder = tempFolder();
  dir = join(folder.path, "store");
});
afterEach(() => folder[Symbol.dispose]());

const shared = (path = dir) => new SharedStore(path, { domain: DOMAIN, write: true });

const heldIn = (path: string, numbers: readonly number[]) => heldBy(Store.open(path, { domain: DOMAIN }), numbers);

/** Whether another process, as it were, may write to the store. */
async function isFree(path = dir): Promise<boolean> {
  try {
    await (await Store.open(path, { domain: DOMAIN, write: true })).close();
    return true;
  } catch (error) {
    if ((error as { code?: string }).code !== "refused") throw error;
    return false;
  }
}

describe("a store that users share", () => {
  test("is one store, open and locked from the first to the last of them", async () => {
    const site = shared();
    const [one, two] = await Promise.all([site.enter(), site.enter()]);
    expect(one).toBe(two);
    await put(one, [0, 1]);
    await site.leave();
    // What one has brought lasts, though the other goes on.
    expect(await heldIn(dir, [0, 1])).toEqual([0, 1]);
    expect(await isFree()).toBe(false);
    const three = await site.enter();
    expect(three).toBe(one);
    await put(three, [2]);
    await Promise.all([site.leave(), site.leave()]);
    expect(await isFree()).toBe(true);
    expect(await heldIn(dir, [0, 1, 2])).toEqual([0, 1, 2]);
  });

  test("is opened anew for who comes while it is closed", async () => {
    const site = shared();
    const one = await site.enter();
    const left = site.leave();
    const two = await site.enter();
    await left;
    expect(two === one && (await isFree())).toBe(false);
    await put(two, [3]);
    await site.leave();
    expect(await heldIn(dir, [3])).toEqual([3]);
  });

  test("may be come to and left in any order", async () => {
    const users = fc.array(fc.record({ waits: fc.nat(4), stays: fc.nat(4) }), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(users, async (users) => {
        using folder = tempFolder();
        const path = join(folder.path, "store");
        const site = shared(path);
        const turns = async (count: number) => {
          for (let i = 0; i < count; i++) await new Promise((resolve) => setTimeout(resolve, 1));
        };
        await Promise.all(
          users.map(async ({ waits, stays }, i) => {
            await turns(waits);
            const store = await site.enter();
            await put(store, [i, i + 1]);
            await turns(stays);
            await site.leave();
          }),
        );
        expect(await isFree(path)).toBe(true);
        expect(await heldIn(path, range(0, users.length + 1))).toEqual(range(0, users.length + 1));
      }),
      { numRuns: 20 },
    );
  });

  test("that another process writes to is refused to all, and may be tried again", async () => {
    const site = shared();
    await site.enter();
    await site.leave();
    await using other = await lockElsewhere(join(dir, "domains", DOMAIN, "writer"), "exclusive");
    const errors = await Promise.all([failure(site.enter()), failure(site.enter())]);
    for (const { code, message } of errors) expect([code, message]).toEqual(["refused", expect.stringContaining(dir)]);
    expect((await failure(site.enter())).code).toBe("refused");
    await other.kill();
    await put(await site.enter(), [4]);
    await site.leave();
    expect(await heldIn(dir, [4])).toEqual([4]);
  });

  test("that can't be opened holds no lock, and is opened once it can", async () => {
    const site = shared();
    mkdirSync(dir);
    writeFileSync(join(dir, "photo.jpg"), "");
    expect((await failure(site.enter())).code).toBe("input");
    rmSync(join(dir, "photo.jpg"));
    await site.enter();
    await site.leave();
    const marked = join(dir, "domains", DOMAIN, "site");
    writeFileSync(marked, "damaged");
    expect((await failure(site.enter())).code).toBe("integrity");
    rmSync(marked);
    await site.enter();
    expect(await isFree()).toBe(false);
    await site.leave();
    expect(await isFree()).toBe(true);
  });

  test("tells each user that what it brought does not last, and is closed all the same", async () => {
    const site = shared();
    const [store] = await Promise.all([site.enter(), site.enter()]);
    rmSync(join(dir, "domains", DOMAIN, "packs"), { recursive: true });
    await put(store, [5]);
    expect((await failure(site.leave())).code).toBe("input");
    expect((await failure(site.leave())).code).toBe("input");
    expect(await isFree()).toBe(true);
    await put(await site.enter(), [6]);
    await site.leave();
    expect(await heldIn(dir, [6])).toEqual([6]);
  });
});
