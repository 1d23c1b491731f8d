import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { takeLock } from "../../../core/files/lock.ts";
import { failure, type TempFolder, tempFolder } from "./contents.ts";
import { lockElsewhere } from "./lock-holder.ts";

let folder: TempFolder;
let path: string;
beforeEach(() => {
  folder = tempFolder();
  path = join(folder.path, "lock");
});
afterEach(() => folder[Symbol.dispose]());

const exclusive = () => takeLock(path, true, "another has it");
const shared = () => takeLock(path, false, "another has it");

describe("a lock", () => {
  test("that another process has is refused, until that ends", async () => {
    await using other = await lockElsewhere(path, "exclusive");
    expect(other.said).toBe("held");
    for (const take of [exclusive, shared]) {
      const error = await failure(take());
      expect([error.code, error.message]).toEqual(["refused", "another has it"]);
    }
    await other.end();
    await (await exclusive()).release();
  });

  test("is free when its process is killed", async () => {
    await using other = await lockElsewhere(path, "exclusive");
    expect((await failure(shared())).code).toBe("refused");
    await other.kill();
    await (await exclusive()).release();
  });

  test("that is shared may be held by several, but not alone", async () => {
    await using other = await lockElsewhere(path, "shared");
    expect(other.said).toBe("held");
    const ours = await shared();
    expect((await failure(exclusive())).code).toBe("refused");
    await using third = await lockElsewhere(path, "exclusive");
    expect(third.said).toBe("taken");
    await other.end();
    expect((await failure(exclusive())).code).toBe("refused");
    await ours.release();
    await (await exclusive()).release();
  });

  test("keeps out this process as well", async () => {
    const one = await exclusive();
    expect((await failure(exclusive())).code).toBe("refused");
    await using other = await lockElsewhere(path, "shared");
    expect(other.said).toBe("taken");
    await one.release();
    await using after = await lockElsewhere(path, "shared");
    expect(after.said).toBe("held");
  });

  test("has a file that is made, and stays, and is empty", async () => {
    await (await shared()).release();
    expect([readFileSync(path, "utf8"), statSync(path).mode & 0o777]).toEqual(["", 0o600]);
  });

  test("can't be had where there is no folder, or a link", async () => {
    path = join(folder.path, "none", "lock");
    expect((await failure(exclusive())).code).toBe("input");
    path = join(folder.path, "link");
    symlinkSync(join(folder.path, "elsewhere"), path);
    expect((await failure(exclusive())).code).toBe("input");
    expect(existsSync(join(folder.path, "elsewhere"))).toBe(false);
  });
});
