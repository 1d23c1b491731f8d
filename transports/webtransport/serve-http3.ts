import { MAX_STRANGERS, Strangers } from "../strangers.ts";
import type { DatagramGate } from "./datagram-gate.ts";
import { type Server, type Session, stopServer } from "./library.ts";
import { closeSession, GOODBYE_MS } from "./link.ts";

/** Of the library's server. The request that opens a session is one of its streams. */
export const SERVER_OPTIONS = {
  initialBidirectionalStreams: 2,
  // Else another process may listen at the same port, and get some of what is sent there.
  quicheNodeSocketOptions: { reuseAddr: false },
};

/** A server that runs, and what stands before it. */
export interface Http3Running {
  readonly server: Pick<Server, "stopServer">;
  readonly gate: DatagramGate;
}

export interface Http3Serving {
  /** Starts a server that shows what is to be shown now, and whose sessions are greeted. */
  start(greet: (session: Session) => void): Promise<Http3Running>;
  /** Resolves with whether a session has opened its stream; one that has not was cut. */
  welcome(session: Session, cut: () => void): Promise<boolean>;
}

/** A listener's HTTP/3 half. */
export interface Http3Half {
  /** @param anew whether those who come are to be shown something else than before */
  look(anew: boolean): void;
  /** Takes no more sessions; those that were welcomed go on. */
  close(): void;
}

/**
 * Serves sessions. The library ends a server's sessions with it, and can't have it show another certificate. So one that
 * closes, or is to show another, does so once no session is open; until then HTTP/2 is there for those who come. The same
 * is done about what peers leave behind there: only the end of the server frees that.
 */
export async function serveHttp3({ start, welcome }: Http3Serving): Promise<Http3Half> {
  const sessions = new Set<Session>();
  const strangers = new Strangers<Session>(end);
  let closed = false;
  let stale = false;
  let replacing = false;
  /** Sessions that were closed here, and whose peers have not agreed. */
  const undead = new Set<Session>();
  let running: Http3Running | undefined;

  function over(session: Session): void {
    if (!sessions.delete(session)) return;
    running?.gate.leave(session.peerAddress ?? "");
    settle();
  }

  /** A session whose peer doesn't agree to its end is over all the same. */
  function end(session: Session): void {
    if (!sessions.has(session)) return;
    closeSession(session);
    undead.add(session);
    setTimeout(over, GOODBYE_MS, session);
  }

  function greet(session: Session): void {
    if (closed) {
      closeSession(session);
      return;
    }
    sessions.add(session);
    const ended = () => {
      undead.delete(session);
      over(session);
    };
    session.closed.then(ended, ended);
    strangers.add(session);
    void welcome(session, () => end(session)).then((welcomed) => {
      strangers.release(session);
      if (welcomed && sessions.has(session)) running?.gate.admit(session.peerAddress ?? "");
    });
  }

  function settle(): void {
    if (sessions.size > 0 || replacing) return;
    const anew = stale || undead.size > MAX_STRANGERS || running?.gate.full === true;
    if (closed || anew) stop();
    if (!closed && anew) void replace();
  }

  function stop(): void {
    running?.gate.shut();
    if (running) stopServer(running.server);
    running = undefined;
    undead.clear();
  }

  async function replace(): Promise<void> {
    replacing = true;
    stale = false;
    // Its port may be taken by now. It is tried again.
    running = await start(greet).catch(() => undefined);
    replacing = false;
    if (running) settle();
    else stale = true;
  }

  running = await start(greet);
  return {
    look(anew) {
      stale ||= anew;
      settle();
    },
    close() {
      closed = true;
      for (const stranger of strangers) strangers.drop(stranger);
      settle();
    },
  };
}
