import { readFileSync } from "node:fs";

/** Of the main thread, in nanoseconds: how long it ran, and how long it was ready to and waited for a core. */
const SCHEDULED = "/proc/self/schedstat";
const WINDOW_MS = 100;

/**
 * What share of the time this program's main thread has work to do, from 0 to 1: at 1 it is what everything else waits for, whether it has
 * a core of its own or shares one. The kernel tells (Linux, `schedstat`); where it doesn't, 0.
 * @param now milliseconds of a monotonic clock
 * @param read what the kernel tells; throws where it tells nothing
 * @returns a function that gives the share of about the last tenth of a second; time counts from its first call
 */
export function threadDemand(
  now: () => number = () => performance.now(),
  read: () => string = () => readFileSync(SCHEDULED, "latin1"),
): () => number {
  const wanted = (): number => {
    try {
      const [ran, waited] = read().split(" ").map(Number);
      return (ran! + waited!) / 1e6;
    } catch {
      return Number.NaN;
    }
  };
  let at = Number.NaN;
  let then = 0;
  let share = 0;
  return () => {
    const ms = now() - at;
    if (ms < WINDOW_MS) return share;
    const until = wanted();
    share = Math.min(1, Math.max(0, (until - then) / ms)) || 0;
    at = now();
    then = until;
    return share;
  };
}
