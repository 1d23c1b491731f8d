import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IntegrityError, type ShrinkerError } from "../../../core/errors.ts";
import { Journal, listJournals } from "../../../core/handover/journal.ts";
import type { NewEntry } from "../../../core/handover/journal-entry.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "journal-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const entry: NewEntry = {
  ...{ id: "ab".repeat(16), role: "source", phase: "begun", name: "web", qmp: "/q", socket: "1-2-3", runs: true },
  ...{
    ran: true,
    settings: { capabilities: { events: false }, parameters: { "max-bandwidth": { integer: "9223372036854775807" } } },
  },
};
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: ShrinkerError) => error.code,
  );

test("a journal lasts as it was written, belongs to one process at a time, and leaves nothing", async () => {
  const state = join(folder, "one");
  expect(await listJournals(state)).toEqual([]);
  const journal = await Journal.create(state, entry);
  await journal.update({ phase: "given", started: true });
  expect(await failure(Journal.resume(state, entry))).toBe("refused");
  const [listed] = await listJournals(state);
  expect(listed).toEqual(journal.entry);
  expect(listed).toMatchObject({ ...entry, phase: "given", started: true });
  await journal.release();
  await journal.release();
  const again = await Journal.resume(state, entry);
  expect(again!.entry).toEqual(listed!);
  // What a process has left that was killed while it wrote.
  writeFileSync(join(state, "migrations", `source-${entry.id}.json.0123456789ab.new`), "{");
  expect(await listJournals(state)).toHaveLength(1);
  await again!.remove();
  await again!.release();
  expect(readdirSync(join(state, "migrations"))).toEqual([]);
  expect(await Journal.resume(state, entry)).toBeUndefined();
  writeFileSync(join(state, "migrations", `source-${entry.id}.lock`), "");
  expect(await Journal.resume(state, entry)).toBeUndefined();
  expect(readdirSync(join(state, "migrations"))).toEqual([]);
});

test("an update that can't be written changes nothing", async () => {
  const state = join(folder, "gone");
  const journal = await Journal.create(state, entry);
  rmSync(join(state, "migrations"), { recursive: true });
  expect(await failure(journal.update({ phase: "given" }))).toBe("input");
  expect(journal.entry.phase).toBe("begun");
  await journal.release();
});

test("a journal of 1 MiB is read, and no longer one", async () => {
  const state = join(folder, "large");
  await (await Journal.create(state, entry)).release();
  const path = join(state, "migrations", `source-${entry.id}.json`);
  const short = text({});
  writeFileSync(path, short.padEnd(1 << 20));
  expect(await listJournals(state)).toHaveLength(1);
  writeFileSync(path, short.padEnd((1 << 20) + 1));
  expect(await failure(listJournals(state))).toBe("integrity");
});

const text = (change: object) =>
  JSON.stringify({ version: 1, began: "2026-01-01", changed: "2026-01-01", ...entry, ...change });

test.each([
  ["nothing", ""],
  ["half of it", text({}).slice(0, 100)],
  ["a list", "[]"],
  ["another version", text({ version: 2 })],
  ["a phase of the other end", text({ phase: "taken" })],
  ["an unknown phase", text({ phase: "?" })],
  ["too much", text({ name: "x".repeat(1 << 20) })],
  ["a path that is none", text({ qmp: 7 })],
  ["a time that there is not", text({ changed: "yesterday" })],
])("a journal that holds %s is damaged, and says where it is", async (_, content) => {
  const state = mkdtempSync(join(folder, "bad-"));
  mkdirSync(join(state, "migrations"));
  const path = join(state, "migrations", `source-${entry.id}.json`);
  writeFileSync(path, content);
  const error = await listJournals(state).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(IntegrityError);
  expect(error.message).toContain(path);
  expect(await failure(Journal.resume(state, entry))).toBe("integrity");
  expect(readFileSync(path, "utf8")).toBe(content);
});
