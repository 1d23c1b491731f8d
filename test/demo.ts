/**
 * Makes two disk images from files of this machine that share most of their content, migrates both over TCP into a
 * receiver that it starts, compares what arrived with what was sent, and removes everything again.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { access, constants, type FileHandle, mkdtemp, open, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const MB = 1e6;
const SHARED = 90 * MB;
const OWN = 20 * MB;
const HOLE = 16 << 20;
const BLOCK = 4096;
/** No single program is to make up an image. */
const MAX_FILE = 8 * MB;

const root = resolve(import.meta.dirname, "..");
const main = join(root, "cli/main.ts");
const command = "Deno" in globalThis ? ["run", "-A", "--no-check", main] : [main];
const shrinker = (args: string[], stderr: "inherit" | "pipe") =>
  spawn(process.execPath, [...command, ...args], {
    stdio: ["ignore", stderr === "pipe" ? "ignore" : "inherit", stderr],
  });

/** Regular files below the folders, in the order of their names. */
async function* walk(folders: readonly string[]): AsyncGenerator<{ path: string; size: number }> {
  for (const folder of folders) {
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) yield* walk([path]);
      else if (entry.isFile()) {
        const readable = access(path, constants.R_OK).then(() => stat(path));
        const { size } = await readable.catch(() => ({ size: 0 }));
        if (size >= BLOCK) yield { path, size };
      }
    }
  }
}

/** Copies files into an image from `at` on, each at the beginning of a block; returns where they end. */
async function fill(image: FileHandle, files: AsyncGenerator<{ path: string; size: number }>, at: number, end: number) {
  while (at < end) {
    const { value, done } = await files.next();
    if (done) throw new Error("This machine has too few files for the demonstration");
    const room = Math.min(MAX_FILE, end - at);
    for await (const piece of createReadStream(value.path, { end: room - 1 })) {
      await image.write(piece, 0, piece.length, at);
      at += piece.length;
    }
    at = Math.ceil(at / BLOCK) * BLOCK;
  }
  return at;
}

const folders = [join(root, "node_modules"), "/usr/bin", "/usr/lib", "/usr/share"];

/** @param skip bytes of own files that other images have */
async function makeImage(path: string, skip: number): Promise<void> {
  await using image = await open(path, "w");
  const files = walk(folders);
  const middle = await fill(image, files, 0, SHARED);
  for (let skipped = 0; skipped < skip; ) skipped += Math.min((await files.next()).value?.size ?? skip, MAX_FILE);
  const data = await fill(image, files, middle + HOLE, middle + HOLE + OWN);
  await image.truncate(data + HOLE);
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path)) hash.update(piece);
  return hash.digest("hex");
}

async function exitOf(child: ChildProcess): Promise<number> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.exitCode ?? 1;
}

async function listeningAddress(receiver: ChildProcess): Promise<string> {
  let said = "";
  for await (const text of receiver.stderr!.setEncoding("utf8")) {
    said += text;
    const address = /listening on (\S+)/.exec(said)?.[1];
    if (address) return address;
  }
  throw new Error(`The receiver has ended: ${said}`);
}

const folder = await mkdtemp(join(tmpdir(), "shrinker-demo-"));
const output = join(folder, "arrived");
let receiver: ChildProcess | undefined;
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => receiver?.kill());
try {
  console.log("Making two disk images of files of this machine ...");
  const names = ["one.raw", "two.raw"];
  for (const [i, name] of names.entries()) await makeImage(join(folder, name), i * OWN);
  const receive = ["receive", "--listen", "tcp://127.0.0.1:0", "--once", "--output", output];
  receiver = shrinker(receive, "pipe");
  const address = await listeningAddress(receiver);
  console.log(`shrinker ${receive.join(" ")}\nshrinker migrate ${names.join(" ")} --to ${address}\n`);
  const migrate = shrinker(["migrate", ...names.map((name) => join(folder, name)), "--to", address], "inherit");
  const codes = [await exitOf(migrate), await exitOf(receiver)];
  if (codes.some((code) => code !== 0)) throw new Error(`The migration failed: exit codes ${codes.join(" and ")}`);
  console.log();
  for (const name of names) {
    const [sent, arrived] = await Promise.all([join(folder, name), join(output, name)].map(sha256));
    if (sent !== arrived) throw new Error(`${name} differs: ${sent} was sent, ${arrived} arrived`);
    console.log(`${name}: arrived as it was, SHA-256 ${sent}`);
  }
} catch (error) {
  console.error(`The demonstration failed: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  receiver?.kill();
  await rm(folder, { recursive: true, force: true });
}
