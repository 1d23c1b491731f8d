/** File systems for tests, in mount namespaces of their own: nobody else sees them, and they are gone with the process that holds them. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

/** With a user namespace where this user may not mount. */
const WAYS = [["-m"], ["-r", "-m"]];
const PROBE =
  "mount -t tmpfs tmpfs /tmp && mkdir /tmp/a && mount --bind /etc /tmp/a && mount -o remount,bind,ro /tmp/a";
const way = WAYS.find((flags) => spawnSync("unshare", [...flags, "/bin/sh", "-c", PROBE]).status === 0);

/** Whether there can be any. */
export const canMount = process.platform === "linux" && way !== undefined;

export interface Mount extends AsyncDisposable {
  /** Where it is seen from here. */
  readonly path: string;
}

/** @param command mounts at `$1` */
async function mount(at: string, command: string, ...args: string[]): Promise<Mount> {
  mkdirSync(at, { recursive: true });
  // It ends with its input, so also with who has started it.
  const script = `${command} && echo mounted && exec cat >&2`;
  const child = spawn("unshare", [...way!, "/bin/sh", "-c", script, "sh", at, ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "close");
  const [said] = await Promise.race([once(child.stdout.setEncoding("utf8"), "data"), ended]);
  const end = async () => {
    child.stdin.end();
    await ended;
  };
  if (said !== "mounted\n") throw new Error(`cannot mount at ${at}: ${said}`);
  return { path: join(`/proc/${child.pid}/root`, at), [Symbol.asyncDispose]: end };
}

/** An empty file system of so many bytes. */
export function mountSmall(at: string, bytes: number): Promise<Mount> {
  return mount(at, `mount -t tmpfs -o size="$2",mode=700 tmpfs "$1"`, String(bytes));
}

/** A folder as it is, that can't be written to. */
export function mountReadOnly(at: string, folder: string): Promise<Mount> {
  return mount(at, `mount --bind "$2" "$1" && mount -o remount,bind,ro "$1"`, folder);
}
