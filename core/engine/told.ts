import { type ErrorCode, ShrinkerError } from "../errors.ts";

/** No longer message is sent to a peer. */
const MAX_MESSAGE = 2000;

/** Whatever was thrown, as one of our errors; what is none of them yet is a bug. */
export function asShrinkerError(error: unknown): ShrinkerError {
  if (error instanceof ShrinkerError) return error;
  return new ShrinkerError("bug", error instanceof Error ? error.message : String(error), { cause: error });
}

/** What a peer is told of a failure. */
export function told(error: unknown): { code: ErrorCode; message: string } {
  const { code, message } = asShrinkerError(error);
  return { code, message: message.slice(0, MAX_MESSAGE) };
}

/** What a peer has told of a failure: one line without control characters, as it may be shown on a terminal. */
export function heard(code: ErrorCode, message: string, before = ""): ShrinkerError {
  return new ShrinkerError(code, before + message.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]+/g, " "));
}
