/**
 * Every failure that the tool foresees is a `ShrinkerError` with one of these codes. The codes cross the wire (the peer is
 * told why) and decide the exit code of the command line (docs/cli.md), so both lists only ever grow.
 */
export const ERROR_CODES = [
  "usage",
  "input",
  "refused",
  "link",
  "integrity",
  "exists",
  "space",
  "partial",
  "cancelled",
  "unsettled",
  "timeout",
  "bug",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** A failure that says what was wrong, where, and what to do about it, in one line. */
export class ShrinkerError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ShrinkerError";
    this.code = code;
  }
}

/** Bytes from outside break the format, or the peer breaks the protocol. */
export class ProtocolError extends ShrinkerError {
  constructor(message: string, options?: ErrorOptions) {
    super("integrity", message, options);
    this.name = "ProtocolError";
  }
}

/** Bytes are not those that were sent: a checksum or a digest differs, or something ends too early. */
export class IntegrityError extends ShrinkerError {
  constructor(message: string, options?: ErrorOptions) {
    super("integrity", message, options);
    this.name = "IntegrityError";
  }
}

/** The connection could not be made, broke, or fell silent. */
export class LinkError extends ShrinkerError {
  constructor(message: string, options?: ErrorOptions) {
    super("link", message, options);
    this.name = "LinkError";
  }
}

/** The user, or a signal, ended the work. */
export class CancelledError extends ShrinkerError {
  constructor(message = "cancelled", options?: ErrorOptions) {
    super("cancelled", message, options);
    this.name = "CancelledError";
  }
}

const NO_SPACE = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);
const SENTENCES: Record<string, string> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of its path is not a directory",
  EROFS: "the file system is read-only",
  EIO: "the device reports an input/output error",
  EMFILE: "too many open files",
  ENAMETOOLONG: "its name is too long",
  ELOOP: "too many symbolic links",
};

/** The `code` of a system error, such as `ENOENT`, or `undefined`. */
export function systemCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}

/** Whether a file system's error says that there is no such file, also because a folder on the way is none. */
export function isMissing(error: unknown): boolean {
  const code = systemCode(error);
  return code === "ENOENT" || code === "ENOTDIR";
}

/**
 * Turns a file system's error into one that names the file and the remedy; leaves a `ShrinkerError` as it is.
 * @param doing what was tried, such as `Cannot read`
 */
export function fileError(doing: string, path: string, error: unknown): ShrinkerError {
  if (error instanceof ShrinkerError) return error;
  const system = systemCode(error);
  if (system !== undefined && NO_SPACE.has(system)) {
    return new ShrinkerError("space", `${doing} "${path}": no space left there; free some, or choose another place`, {
      cause: error,
    });
  }
  if (system === "EEXIST") {
    return new ShrinkerError("exists", `${doing} "${path}": it exists already; remove it, or pass --force`, {
      cause: error,
    });
  }
  const why = (system && SENTENCES[system]) ?? (error instanceof Error ? error.message : String(error));
  return new ShrinkerError("input", `${doing} "${path}": ${why}`, { cause: error });
}

/** What an abort signal was given as its reason, as an error to throw. */
export function abortReason(signal: AbortSignal): Error {
  return signal.reason instanceof ShrinkerError ? signal.reason : new CancelledError();
}
