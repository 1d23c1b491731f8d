import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { fileError, IntegrityError, ShrinkerError, systemCode } from "../errors.ts";
import { openAside } from "../files/aside.ts";
import { readSmall } from "../files/small.ts";
import { writeWhole } from "../files/whole.ts";

/** Marks a folder as a store, and says of which version. */
const MARK = "shrinker-store";
/** What may be in a folder that becomes a store: a file system's own, and what an attempt that was interrupted has left. */
const NEGLIGIBLE = /^lost\+found$|^shrinker-store\.[0-9a-f]{12}\.new$/;
const VERSION = 1;
/** Longer domains get a digest for a folder's name. */
const MAX_FOLDER = 100;
/** Bytes of the mark, and of what says who a site is. */
const MAX_IDENTITY = 4096;

/** One domain's part of a store: contents of different domains never meet. */
export interface Layout {
  readonly domain: string;
  /** `DIR/domains/NAME`, and what is in it. */
  readonly folder: string;
  readonly packs: string;
  readonly index: string;
  readonly snapshots: string;
  readonly logs: string;
  readonly holds: string;
}

/** Who a site is, and which of its states: contents are only ever added in a generation. */
export interface Identity {
  /** 16 bytes. */
  readonly site: Buffer;
  /** 16 bytes. */
  readonly generation: Buffer;
}

const hex16 = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/));
const IdentityFile = v.object({ domain: v.string(), site: hex16, generation: hex16 });

/** Finds a store's part of a domain. Where it is to be written, what is missing is made. Rejects with `input` for what is no store. */
export async function openLayout(dir: string, domain: string, create: boolean): Promise<Layout> {
  await checkMark(dir, create);
  const folder = join(dir, "domains", folderName(domain));
  const parts = Object.fromEntries(
    ["packs", "index", "snapshots", "logs", "holds"].map((name) => [name, join(folder, name)]),
  );
  const layout = { domain, folder, ...parts } as unknown as Layout;
  if (create) {
    for (const part of Object.values(parts)) await makeFolder(part);
    if (!existsSync(join(folder, "site"))) await makeIdentity(layout);
  }
  return layout;
}

/** Of two who make one at once, the first one's counts. */
async function makeIdentity(layout: Layout): Promise<void> {
  const file = await openAside(layout.folder, "site", false);
  try {
    await writeFile(file.handle, encodeIdentity(layout, { site: randomBytes(16), generation: randomBytes(16) }));
    await file.handle.sync();
    await file.handle.close();
    await file.publish();
  } catch (error) {
    await file.remove();
    const told = fileError("Cannot write", file.path, error);
    if (told.code !== "exists") throw told;
  }
}

/** Rejects with `input` where the store holds nothing of the domain. */
export async function readIdentity(layout: Layout): Promise<Identity> {
  const path = join(layout.folder, "site");
  const text = await readText(path).catch((error) => {
    if (systemCode(error) !== "ENOENT") throw fileError("Cannot read", path, error);
    const there = dirname(dirname(layout.folder));
    throw new ShrinkerError("input", `The store "${there}" holds nothing of the domain "${layout.domain}"`);
  });
  try {
    const { domain, site, generation } = v.parse(IdentityFile, JSON.parse(text));
    if (domain !== layout.domain) throw new RangeError("it is of another domain");
    return { site: Buffer.from(site, "hex"), generation: Buffer.from(generation, "hex") };
  } catch (cause) {
    const message = `"${path}" is damaged: remove it, and it is made anew (what other sites know of this one is forgotten)`;
    throw new IntegrityError(message, { cause });
  }
}

export async function writeIdentity(layout: Layout, identity: Identity): Promise<void> {
  await writeWhole(join(layout.folder, "site"), [encodeIdentity(layout, identity)]);
}

function encodeIdentity({ domain }: Layout, { site, generation }: Identity): Buffer {
  const text = JSON.stringify({ domain, site: site.toString("hex"), generation: generation.toString("hex") });
  return Buffer.from(`${text}\n`);
}

/** The domains that a store has a part of. */
export async function listDomains(dir: string): Promise<string[]> {
  await checkMark(dir, false);
  const domains: string[] = [];
  for (const name of await readdir(join(dir, "domains")).catch(() => [])) {
    const text = await readText(join(dir, "domains", name, "site")).catch(() => "");
    const found = v.safeParse(v.pipe(v.string(), v.parseJson(), IdentityFile), text);
    if (found.success) domains.push(found.output.domain);
  }
  return domains.sort();
}

async function checkMark(dir: string, create: boolean): Promise<void> {
  const mark = join(dir, MARK);
  const text = await readText(mark).catch((error) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw fileError("Cannot read the store", dir, error);
  });
  if (text === undefined) {
    if (!create) throw new ShrinkerError("input", `"${dir}" is no store: name one that snapshot or receive has made`);
    await makeFolder(dir);
    const others = (await readdir(dir)).filter((name) => !NEGLIGIBLE.test(name));
    // Another process has made it one meanwhile.
    if (others.includes(MARK)) return checkMark(dir, false);
    if (others.length > 0) {
      throw new ShrinkerError("input", `"${dir}" is no store, and not empty: name a store, or an empty or new folder`);
    }
    await writeWhole(mark, [Buffer.from(`version ${VERSION}\n`)]);
    return;
  }
  const version = /^version (\d{1,9})\n$/.exec(text)?.[1];
  if (version === undefined) throw new IntegrityError(`"${mark}" is damaged: it should say "version ${VERSION}"`);
  if (Number(version) !== VERSION) {
    const message = `The store "${dir}" has version ${version}, this program writes ${VERSION}: use the release that made it`;
    throw new ShrinkerError("refused", message);
  }
}

/** What is too long is damaged, and so is nothing. */
async function readText(path: string): Promise<string> {
  return (await readSmall(path, MAX_IDENTITY))?.toString() ?? "";
}

async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 }).catch((error) => {
    const why = systemCode(error) === "EEXIST" ? { code: "ENOTDIR" } : error;
    throw fileError("Cannot make the folder", path, why);
  });
}

/** A plain name for a folder: what is no letter or digit is percent-encoded. Throws `usage` for what is no text, or an empty one. */
export function folderName(domain: string): string {
  if (domain === "" || !domain.isWellFormed())
    throw new ShrinkerError("usage", `Cannot use the domain ${JSON.stringify(domain)}: expected at least a character`);
  const plain = encodeURIComponent(domain)
    .replace(/%../g, (code) => code.toLowerCase())
    .replace(/[^A-Za-z0-9%_-]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
  return plain.length <= MAX_FOLDER ? plain : createHash("sha256").update(domain).digest("hex");
}
