export interface LinkTimes {
  /** Milliseconds that a peer gets to say its first word. */
  readonly handshake: number;
  /** Milliseconds without a frame to send after which a sign of life is sent. */
  readonly ping: number;
  /** Milliseconds without a byte from the peer after which the connection is dead. */
  readonly dead: number;
  /** Milliseconds that a peer gets to hear, or to say, why the session ends. */
  readonly farewell: number;
  /** Milliseconds for which a source tries to make a lost connection again; a destination waits a little longer. */
  readonly resume?: number;
  /** Milliseconds before the first attempts; the last stands for all that follow. */
  readonly backOff?: readonly number[];
}

export const RESUME_MS = 60_000;
export const LINK_TIMES: LinkTimes = { handshake: 15_000, ping: 2000, dead: 6000, farewell: 1000, resume: RESUME_MS };
