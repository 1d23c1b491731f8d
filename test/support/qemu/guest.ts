/** The guest of the tests: a kernel that `.ci/qemu` keeps in a cache folder, and an initramfs with one program, test/guest/init.c. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { must } from "../run.ts";

export interface Guest {
  readonly kernel: string;
  readonly initramfs: string;
}

export interface Workload {
  /** How much memory the guest fills and checks, in MiB. */
  readonly memory: number;
  /** How much of it the guest rewrites, in KiB a second. */
  readonly dirty: number;
  readonly seed: number;
  /** What its pages hold: random bytes of which a rewrite changes four, or new words, or new random bytes. */
  readonly kind: "counter" | "text" | "random";
  /** Milliseconds from one `SEQ` to the next, 1 to 999: 200 by default. */
  readonly tick?: number;
  /** Seconds in which it checks all of its memory once: 1 by default. */
  readonly pass?: number;
}

const OLDEST = 10;
const kernel = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "shrinker-test/vmlinuz");

/** What this machine lacks for tests with QEMU, as a sentence; `undefined` where all is there. */
export function lacking(): string | undefined {
  let version: number;
  try {
    const text = execFileSync("qemu-system-x86_64", ["--version"], { encoding: "utf8" });
    version = Number(/version (\d+)/.exec(text)?.[1]);
    for (const program of ["gcc", "cpio"]) execFileSync(program, ["--version"], { stdio: "ignore" });
  } catch (error) {
    return `${(error as { path?: string }).path ?? "a program"} is not installed; .ci/qemu installs it`;
  }
  // QEMU 7.2 damages guests that rewrite memory quickly while they migrate under TCG.
  if (!(version >= OLDEST)) return `QEMU ${version} is too old, ${OLDEST} is needed; .ci/qemu installs it`;
  return existsSync(kernel) ? undefined : `there is no kernel at ${kernel}; .ci/qemu puts it there`;
}

/** Builds the guest in `folder`, which takes a second. */
export async function buildGuest(folder: string): Promise<Guest> {
  const source = resolve(import.meta.dirname, "../../guest/init.c");
  const root = join(folder, "root");
  const initramfs = join(folder, "initramfs.gz");
  mkdirSync(root, { recursive: true });
  await must("gcc", ["-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", join(root, "init"), source]);
  await must("sh", ["-c", 'cd "$1" && echo init | cpio --quiet -o -H newc | gzip -1 >"$2"', "sh", root, initramfs]);
  return { kernel, initramfs };
}

export interface SerialLog {
  /** The numbers after `SEQ`, in order. */
  readonly sequence: number[];
  /** How often the guest has found all of its memory right. */
  readonly passes: number;
  /** The lines that say that its memory is wrong, or that its kernel died. */
  readonly wrong: string[];
}

/**
 * Reads what a guest printed. A line may begin on the machine the guest left and end on the one it went to, so hand over the
 * texts of both, one after the other. The last line counts only once it has ended.
 */
export function readSerial(...texts: string[]): SerialLog {
  const lines = texts
    .join("")
    .split("\n")
    .slice(0, -1)
    .map((line) => line.trim());
  const numbers = (word: string) =>
    lines.flatMap((line) => (line.startsWith(`${word} `) ? [Number(line.slice(word.length + 1))] : []));
  return {
    sequence: numbers("SEQ"),
    passes: numbers("PASS").length,
    wrong: lines.filter((line) => /CORRUPT|panic|Oops|BUG:|usage:/.test(line)),
  };
}
