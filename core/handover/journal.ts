import { existsSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileError, systemCode } from "../errors.ts";
import { type Lock, takeLock } from "../files/lock.ts";
import { syncFolder, writeWhole } from "../files/whole.ts";
import { type JournalEntry, type NewEntry, readEntry } from "./journal-entry.ts";

const SUFFIX = ".json";
const FILE = /^(source|destination)-([0-9a-f]{32})\.json$/;

/** One migration's record at one end, on disk before what it says is done. Locked by the process that works on it. */
export class Journal {
  readonly #folder: string;
  readonly #lock: Lock;
  #released = false;
  #entry: JournalEntry;

  private constructor(folder: string, lock: Lock, entry: JournalEntry) {
    this.#folder = folder;
    this.#lock = lock;
    this.#entry = entry;
  }

  /** Begins one. @param state the state folder, whose part for migrations is made where it is missing */
  static async create(state: string, entry: NewEntry): Promise<Journal> {
    const folder = migrationsFolder(state);
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw fileError("Cannot make the folder", folder, error);
    }
    const lock = await lockOf(folder, entry);
    const now = new Date().toISOString();
    const journal = new Journal(folder, lock, {
      ...entry,
      ran: entry.ran ?? false,
      started: entry.started ?? false,
      version: 1,
      began: now,
      changed: now,
    });
    try {
      await journal.#write(journal.#entry);
    } catch (error) {
      await journal.#unlock();
      throw error;
    }
    return journal;
  }

  /** Takes one up that another process has left. Rejects with `refused` where that still works on it; undefined where it has ended. */
  static async resume(state: string, { role, id }: Pick<JournalEntry, "role" | "id">): Promise<Journal | undefined> {
    const folder = migrationsFolder(state);
    const path = join(folder, `${role}-${id}${SUFFIX}`);
    // Without a trace of its own where there is nothing to do; a lock alone is what a process has left that was killed.
    if (!existsSync(path) && !existsSync(lockPath(folder, { role, id }))) return undefined;
    const lock = await lockOf(folder, { role, id });
    try {
      const entry = await readEntry(path);
      if (entry) return new Journal(folder, lock, entry);
    } catch (error) {
      await lock.release();
      throw error;
    }
    await rm(lockPath(folder, { role, id }), { force: true });
    await lock.release();
    return undefined;
  }

  get entry(): JournalEntry {
    return this.#entry;
  }

  /** Of its file, which is there as long as the migration has not ended. */
  get path(): string {
    const { role, id } = this.#entry;
    return join(this.#folder, `${role}-${id}${SUFFIX}`);
  }

  /** A path for a socket that is about this migration alone. */
  get keeperPath(): string {
    return resolve(this.#folder, `${this.#entry.id}.qmp`);
  }

  get migration(): Buffer {
    return Buffer.from(this.#entry.id, "hex");
  }

  /** Lasts once it resolves; where it can't be written, nothing has changed. Calls must not overlap. */
  async update(change: Partial<Omit<JournalEntry, "version" | "id" | "role">>): Promise<void> {
    const entry = { ...this.#entry, ...change, changed: new Date().toISOString() };
    await this.#write(entry);
    this.#entry = entry;
  }

  /** The migration has ended. */
  async remove(): Promise<void> {
    const { role, id, keeper } = this.#entry;
    const path = this.path;
    try {
      await rm(path, { force: true });
    } catch (error) {
      throw fileError("Cannot remove", path, error);
    }
    await syncFolder(this.#folder);
    // What a keeper has left that was killed; one that lives ends now.
    if (keeper !== undefined) await rm(keeper, { force: true });
    // What a process that was killed has left of an update.
    for (const name of await readdir(this.#folder).catch(() => []))
      if (name.startsWith(`${role}-${id}${SUFFIX}.`)) await rm(join(this.#folder, name), { force: true });
    await this.#unlock();
  }

  /** Leaves it to whoever takes it up next. May be called again, and after `remove`; never rejects. */
  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#lock.release().catch(() => {});
  }

  async #unlock(): Promise<void> {
    await rm(lockPath(this.#folder, this.#entry), { force: true });
    await this.release();
  }

  async #write(entry: JournalEntry): Promise<void> {
    const { role, id } = entry;
    const text = `${JSON.stringify(entry, undefined, 2)}\n`;
    await writeWhole(join(this.#folder, `${role}-${id}${SUFFIX}`), [Buffer.from(text)]);
  }
}

/** All that are in a state folder, the oldest first. Rejects with `integrity` for one that can't be read. */
export async function listJournals(state: string): Promise<JournalEntry[]> {
  const folder = migrationsFolder(state);
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [];
    throw fileError("Cannot read", folder, error);
  }
  const entries: JournalEntry[] = [];
  for (const name of names) {
    const entry = FILE.test(name) ? await readEntry(join(folder, name)) : undefined;
    if (entry) entries.push(entry);
  }
  return entries.sort((a, b) => (a.began < b.began ? -1 : a.began > b.began ? 1 : 0));
}

const migrationsFolder = (state: string) => join(state, "migrations");
const lockPath = (folder: string, { role, id }: Pick<JournalEntry, "role" | "id">) =>
  join(folder, `${role}-${id}.lock`);

function lockOf(folder: string, entry: Pick<JournalEntry, "role" | "id">): Promise<Lock> {
  const taken = `Another process works on the migration ${entry.id}: wait for it, or end it first`;
  return takeLock(lockPath(folder, entry), true, taken);
}
