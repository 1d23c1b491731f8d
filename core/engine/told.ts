import { type ErrorCode, IntegrityError, LinkError, ProtocolError, ShrinkerError } from "../errors.ts";
import { Abort, encodeControl } from "../wire/control.ts";
import { type Frame, opening } from "../wire/frame.ts";
import { FRAME } from "../wire/numbers.ts";
import type { Link } from "./link.ts";

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

/** The payload of an ABORT that tells a failure. */
export function abortOf(error: unknown): Buffer {
  return encodeControl(Abort, told(error));
}

/** A whole direction of who refuses a peer before there is a session: it says why, and nothing else. */
export function refusal(error: unknown): Buffer {
  return opening(FRAME.ABORT, abortOf(error));
}

/** What a peer has told of a failure: one line without control characters, as it may be shown on a terminal. */
export function heard(code: ErrorCode, message: string, before = ""): ShrinkerError {
  return new ShrinkerError(code, before + message.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]+/g, " "));
}

/** The peer, or a recording, has ended too early. */
export function ended({ connection: { peer }, duplex, offset }: Link): ShrinkerError {
  return duplex
    ? new LinkError(`${peer} closed the connection before the session was over: see what it said, and run again`)
    : new IntegrityError(`${peer} ends at byte ${offset}, before its last frame: it is cut short`);
}

/** The peer breaks the order of frames. */
export function unexpected(frame: Frame): ProtocolError {
  return new ProtocolError(`The peer sent a frame of type ${frame.type} where none is due`);
}
