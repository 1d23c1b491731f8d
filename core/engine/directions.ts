import { decodeControl, decodeCredit, decodeNumber, Landed, Reset } from "../wire/control.ts";
import type { Frame } from "../wire/frame.ts";
import { FRAME, RETURN_STREAMS } from "../wire/numbers.ts";
import type { Link } from "./link.ts";
import type { Receiver } from "./receiver.ts";
import type { Sender } from "./sender.ts";

/** The directions of a session at one end. A session that only moves files has one of them at each. */
export interface Directions {
  readonly role: "source" | "destination";
  readonly sender: Sender | undefined;
  readonly receiver: Receiver | undefined;
  /** Takes what the peer's mover of machines says; undefined where there is none. */
  readonly told: ((payload: Buffer) => void) | undefined;
}

/** Gives a frame to the direction that it is about. Resolves with false where it is of neither. */
export async function route(frame: Frame, link: Link, directions: Directions): Promise<boolean> {
  const { type, payload } = frame;
  const { role, sender, receiver, told } = directions;
  if (type === FRAME.TELL && told) told(payload);
  else if (type === FRAME.RESET) {
    const { stream, code, message } = decodeControl(Reset, payload);
    const opener = stream < RETURN_STREAMS ? "source" : "destination";
    const direction = opener === role ? sender : receiver;
    if (!direction) return false;
    direction.reset(stream, code, message);
  } else if (receiver && type === FRAME.BATCH) {
    link.acknowledge(frame.sequence);
    await receiver.batch(frame);
  } else if (receiver && type === FRAME.OPEN) receiver.open(payload);
  else if (receiver && type === FRAME.CLOSE) receiver.close(payload);
  else if (receiver && type === FRAME.CONTENT) receiver.content(payload);
  else if (sender && type === FRAME.CREDIT) {
    const { stream, total } = decodeCredit(payload);
    sender.credit(stream, total);
  } else if (sender && type === FRAME.WANT) sender.want(decodeNumber(payload));
  else if (sender && type === FRAME.RESOLVED) sender.resolved(decodeNumber(payload));
  else if (sender && type === FRAME.LANDED) sender.landed(decodeControl(Landed, payload).stream);
  else return false;
  return true;
}

/** Ends both directions, and the link once the peer has been told. */
export function failBoth({ sender, receiver }: Directions, error: Error): void {
  sender?.fail(error);
  receiver?.fail(error);
}
