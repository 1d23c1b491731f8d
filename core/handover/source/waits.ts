/** How long one end waits for what the other, or QEMU, has to do in a hand-over; all in milliseconds. */
export interface Waits {
  /** For the destination to get ready: it may have to start a QEMU. */
  readonly prepareMs: number;
  /** For the destination to say that a guest runs that was given to it. */
  readonly runMs: number;
  /** For the same, once the user wants to end. */
  readonly patienceMs: number;
  /** For the destination to say where a guest is. */
  readonly settleMs: number;
  /** For the destination to say that it has dropped its copy. */
  readonly dropMs: number;
  /** For the source's QEMU to leave a post-copy's stream that has broken. */
  readonly pauseMs: number;
  /** For both ends to go on with a post-copy over another stream. */
  readonly recoverMs: number;
}

export const WAITS: Waits = {
  prepareMs: 60_000,
  runMs: 30_000,
  patienceMs: 5000,
  settleMs: 30_000,
  dropMs: 4000,
  pauseMs: 10_000,
  recoverMs: 30_000,
};
