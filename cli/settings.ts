import { statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { PAGE_SIZE } from "../core/content/page.ts";
import { fileError, ShrinkerError } from "../core/errors.ts";
import { MAX_WINDOW_LOG, MIN_WINDOW_LOG } from "../core/wire/numbers.ts";
import type { Options } from "./options.ts";
import { parseCount, parseSize } from "./units.ts";

/** Binary logarithm of the window that is offered: 128 MiB. */
export const WINDOW_LOG = MAX_WINDOW_LOG;
/** What the direction back of connections takes at most: a window of 1 MiB, and as many contents as are 256 MiB. */
export const RETURNS = { window: MIN_WINDOW_LOG, log: 65_536 };
/** Bytes that may wait from a local peer of a tunnel: QEMU reckons with what it could write, so little is to lie in buffers. */
export const READ_AHEAD = 128 << 10;
/** Where guests' memory is spooled unless it is said otherwise: not /tmp, which may be RAM. */
export const SPOOL_DIR = "/var/tmp";
const DEFAULT_DOMAIN = "default";

const MAX_DOMAIN = 256;
const MAX_PARALLEL = 64;

/** How many machines are sent at once; `otherwise` where it isn't said. */
export function readParallel(options: Options, otherwise: number): number {
  return options.read("parallel", (text) => parseCount(text, MAX_PARALLEL)) ?? otherwise;
}

export function readDomain(options: Options): string {
  const parse = (text: string) => {
    if (text === "" || text.length > MAX_DOMAIN)
      throw new ShrinkerError("usage", `Cannot use "${text}": expected a domain of 1 to ${MAX_DOMAIN} characters`);
    return text;
  };
  return options.read("domain", parse) ?? DEFAULT_DOMAIN;
}

/** How many contents the log of a session may hold. */
export function readLogLimit(options: Options, defaultBytes: number): number {
  const bytes = options.read("spool-limit", parseSize) ?? defaultBytes;
  return Math.max(1, Math.floor(bytes / PAGE_SIZE));
}

/** The folder for spools; throws `input` where the one that was asked for is none. */
export function readSpoolDir(options: Options, otherwise: string): string {
  const dir = options.text("spool");
  if (dir === undefined) return otherwise;
  try {
    if (!statSync(dir).isDirectory()) throw { code: "ENOTDIR" };
  } catch (error) {
    throw fileError("Cannot use the spool folder", dir, error);
  }
  return dir;
}

/** Throws `usage` where no store is named. */
export function readStoreDir(options: Options): string {
  const dir = options.text("store");
  if (dir === undefined) throw new ShrinkerError("usage", "Which store? Give --store DIR");
  return dir;
}

/**
 * The folder for what is remembered from one run to the next: sites, and what seeds hold. Undefined with `--no-state`, and
 * where the user has no home.
 */
export function readState(options: Options): string | undefined {
  if (options.flag("no-state")) return undefined;
  const given = options.text("state");
  if (given !== undefined) return given;
  const xdg = process.env.XDG_STATE_HOME;
  if (xdg?.startsWith("/")) return join(xdg, "shrinker");
  const home = homedir();
  return home.startsWith("/") ? join(home, ".local", "state", "shrinker") : undefined;
}

/** As `readState`, for guests that run; throws `usage` where there is none. */
export function needState(options: Options): string {
  const state = readState(options);
  if (state !== undefined) return state;
  throw new ShrinkerError("usage", "Guests that run need a journal: give --state DIR, and leave out --no-state");
}

/** Throws `usage` where the command line has an option that does nothing for what is moved. @param what it is for */
export function refuseOptions(options: Options, names: readonly string[], what: string): void {
  const stray = names.find((name) => options.given(name));
  if (stray !== undefined) throw new ShrinkerError("usage", `--${stray} is for ${what}: leave it out`);
}
