import { fileError, LinkError, ShrinkerError, systemCode } from "../../errors.ts";

/** What is kept of QEMU's own words, in UTF-16 units. */
const MAX_WORDS = 2000;

/** QEMU's words, fit for a message: on one line, and bounded. */
export const words = (text: string): string =>
  text
    .slice(0, MAX_WORDS)
    .replace(/[\x00-\x1f\x7f-\x9f]+/g, " ")
    .trim();

/** QEMU does not do what a command asks for. */
export class QmpError extends ShrinkerError {
  /** QEMU's class of the error: mostly `GenericError`; `CommandNotFound` where it lacks the command. */
  readonly class: string;
  /** Why, in QEMU's words. */
  readonly desc: string;
  constructor(command: string, kind: string, desc: string) {
    super("input", `QEMU refuses "${command}": ${words(desc)}`);
    this.name = "QmpError";
    this.class = kind;
    this.desc = words(desc);
  }
}

/** QEMU has not answered a command in time. It may still do it: its reply will be ignored. */
export class QmpTimeout extends LinkError {
  constructor(command: string, path: string, ms: number) {
    super(`QEMU has not answered "${command}" at "${path}" within ${ms / 1000} s; see whether it hangs`);
    this.name = "QmpTimeout";
  }
}

/** The connection broke, or QEMU has closed it. */
export class QmpLost extends LinkError {
  constructor(path: string, cause?: Error) {
    const why = cause ? cause.message : "QEMU has ended, or has closed it";
    super(`Lost the QMP connection at "${path}": ${why}`, { cause });
    this.name = "QmpLost";
  }
}

/** There is no QEMU at a socket's path. */
export class QmpAbsent extends ShrinkerError {
  constructor(path: string, what: string, cause: Error) {
    const remedy = `start QEMU with -qmp unix:${path},server=on,wait=off, or correct the path`;
    super("input", `Cannot speak to QEMU: ${what} "${path}"; ${remedy}`, { cause });
    this.name = "QmpAbsent";
  }
}

const BUSY =
  "perhaps another program is connected to it, as libvirt is: a QMP socket serves one at a time; end that one, or give QEMU " +
  "another -qmp socket";

/** Nothing came from the socket, which took the connection. */
export function silent(path: string, ms: number): LinkError {
  return new LinkError(`Cannot speak to QEMU: nothing says a word at "${path}" for ${ms / 1000} s; ${BUSY}`);
}

/** The socket could not be connected to: a `QmpAbsent` where nobody is there, a `LinkError` for one that is busy, else `input`. */
export function unreachable(path: string, cause: Error): ShrinkerError {
  const code = systemCode(cause);
  if (code === "ENOENT") return new QmpAbsent(path, "there is no socket", cause);
  if (code === "ECONNREFUSED" || code === "ENOTSOCK" || code === "EPROTOTYPE")
    return new QmpAbsent(path, "nobody listens at", cause);
  if (code === "EAGAIN") return new LinkError(`Cannot speak to QEMU: "${path}" is busy; ${BUSY}`, { cause });
  return fileError("Cannot speak to QEMU at", path, cause);
}
