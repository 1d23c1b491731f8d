import { timingSafeEqual } from "node:crypto";
import { LinkError, ShrinkerError } from "../errors.ts";
import { decodeControl, Resume } from "../wire/control.ts";
import { SECRET_BYTES } from "../wire/numbers.ts";
import type { Channel } from "./channel.ts";
import type { Link } from "./link.ts";
import type { Ticket } from "./reconnect.ts";

/** Sessions that can be resumed, at most; further ones end with their connection. */
const MAX_SESSIONS = 1024;

/** Failures that are kept for sources that were away. */
const MAX_UNTOLD = 64;

/** What accepting a connection comes to that goes on with a session of before: it belongs to that session now. */
export class ResumedSession extends Error {
  constructor() {
    super("The connection goes on with an earlier session");
    this.name = "ResumedSession";
  }
}

interface Entry {
  readonly secret: Uint8Array;
  /** Undefined until the session has begun. */
  link: Link | undefined;
  /** Why the session is over, where its source doesn't know yet. */
  untold: Error | undefined;
}

/** The sessions of a destination that wait for their source, or may come to. One registry serves every listener of a process. */
export class ResumableSessions {
  readonly #sessions = new Map<string, Entry>();
  /** Sessions that failed while their source was away: it hears why when it comes back. */
  readonly #untold = new Map<string, Entry>();
  readonly #most: number;

  /** @param most sessions that are kept; further ones end with their connection */
  constructor(most = MAX_SESSIONS) {
    this.#most = most;
  }

  /** Sessions that can be resumed. */
  get size(): number {
    return this.#sessions.size;
  }

  /** Takes a session in. Undefined where there are too many, or another has that name: then it can't be resumed. */
  register({ session, secret }: Ticket): Registration | undefined {
    const name = Buffer.from(session).toString("hex");
    if (this.#sessions.size >= this.#most || this.#sessions.has(name)) return undefined;
    const entry: Entry = { secret: Buffer.from(secret), link: undefined, untold: undefined };
    this.#sessions.set(name, entry);
    return {
      activate(link) {
        entry.link = link;
      },
      remove: (untold) => {
        if (this.#sessions.get(name) !== entry) return;
        this.#sessions.delete(name);
        if (untold) this.#remember(name, { ...entry, link: undefined, untold });
      },
    };
  }

  /**
   * RESUME: gives the connection to the session that it names. Throws why where that is over, `refused` where there is none
   * or the secret is not its own, which are not told apart, and a `ProtocolError` where it can't go on from there.
   */
  resume(payload: Buffer, take: () => Channel): void {
    const { session, secret, received } = decodeControl(Resume, payload);
    const name = Buffer.from(session).toString("hex");
    const entry = this.#sessions.get(name) ?? this.#untold.get(name);
    // Compared also where there is none: how long it takes tells nothing.
    const same = timingSafeEqual(secret, entry?.secret ?? Buffer.alloc(SECRET_BYTES));
    if (!entry || !same) {
      const message =
        "This receiver does not know that session (any more): it was started again, or gave the session up";
      throw new ShrinkerError("refused", `${message}; run again`);
    }
    if (entry.untold) throw entry.untold;
    if (!entry.link) throw new LinkError("The session has not begun yet");
    entry.link.resume(take, received);
  }

  #remember(name: string, entry: Entry): void {
    this.#untold.set(name, entry);
    for (const oldest of this.#untold.keys()) {
      if (this.#untold.size <= MAX_UNTOLD) break;
      this.#untold.delete(oldest);
    }
  }
}

export interface Registration {
  /** From now on the session may be resumed. */
  activate(link: Link): void;
  /** The session is over; `untold` is why, where the source doesn't know. */
  remove(untold?: Error): void;
}
