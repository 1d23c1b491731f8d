import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadIdentity, newIdentity, rotate, saveIdentity } from "../../../core/identity/identity.ts";
import { IdentityFile } from "../../../core/identity/identity-file.ts";

const folder = mkdtempSync(join(tmpdir(), "identity-file-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A file, and how often it was read. */
function watched(name: string) {
  const path = join(folder, name);
  const notes: string[] = [];
  let loads = 0;
  const load = async () => {
    loads++;
    const identity = await loadIdentity(path, async () => "");
    if (!identity) throw new Error("there is none");
    return identity;
  };
  return { path, notes, loads: () => loads, file: new IdentityFile(path, load, (line) => notes.push(line)) };
}

describe("an identity whose file may be replaced", () => {
  test("is read again when that has happened, and only then", async () => {
    const { path, file, loads, notes } = watched("replaced");
    const old = newIdentity();
    await saveIdentity(path, old, undefined);
    for (let i = 0; i < 3; i++) expect((await file.current()).word).toBe(old.word);
    expect(loads()).toBe(1);
    const young = rotate(old);
    await saveIdentity(path, young, undefined);
    const together = await Promise.all([file.current(), file.current()]);
    expect(together.map(({ word }) => word)).toEqual([young.word, young.word]);
    expect([loads(), notes]).toEqual([2, []]);
  });

  test("stays what it was where the new one can't be used, of which the user is told once", async () => {
    const { path, file, notes } = watched("broken");
    const identity = newIdentity();
    await saveIdentity(path, identity, undefined);
    await file.current();
    writeFileSync(path, "no key", { mode: 0o600 });
    for (let i = 0; i < 3; i++) expect((await file.current()).word).toBe(identity.word);
    expect(notes).toEqual([expect.stringContaining("The key of before stays in use")]);
    unlinkSync(path);
    expect((await file.current()).word).toBe(identity.word);
    expect(notes.length).toBe(2);
  });

  test("that can't be read at first is an error each time, until it can", async () => {
    const { path, file } = watched("late");
    for (let i = 0; i < 2; i++) await expect(file.current()).rejects.toThrow("there is none");
    const identity = newIdentity();
    await saveIdentity(path, identity, undefined);
    expect((await file.current()).word).toBe(identity.word);
  });
});
