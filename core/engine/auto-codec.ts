import { CODEC } from "../wire/numbers.ts";
import type { CodecPolicy } from "./codec-policy.ts";
import { RecentRate } from "./recent-rate.ts";
import { threadDemand } from "./thread-demand.ts";

/** Measurements older than this hardly count. */
const MEMORY_MS = 300;
/** Batches whose outcome is awaited before the first choice, and wire bytes: as long as buffers may take them, any link looks fast. */
const FIRST_LOOK = 4;
const FIRST_WIRE = 4 << 20;
/** A batch that took longer had to wait for the link, whose rate is remembered for so long. */
const WAIT_MS = 2;
const LINK_MEMORY_MS = 5000;
/** Another codec has to promise this much more. */
const ADVANTAGE = 1.15;
/** So much faster than the link is fast enough by far. */
const MARGIN = 1.5;
/**
 * A link that takes this much (bytes in a millisecond: 400 Mbit/s), and all that comes as it is, while this program is short of time seems
 * slow only because its ends are: every codec costs both of them more than it saves.
 */
const FAST_LINK = 50e3;
const SHORT_OF_TIME = 0.85;
/** And for so long after that: what it waits for may be the other end, which is then as short of time. */
const SHORT_MEMORY_MS = 2000;
/** A codec that is not in use is tried on one batch after this time, as contents change. */
const PROBE_MS = 2000;

interface Estimate {
  readonly codec: number;
  /** New bytes that it encodes in a millisecond. */
  speed: number;
  /** Wire bytes for a new byte. */
  ratio: number;
  triedAt: number;
}

/**
 * Chooses by what bounds the migration: a batch takes the longer of encoding it and sending what it was encoded to, as
 * both go on at once. So a slow link gets the codec that makes the least of a page, a fast one the codec that keeps up.
 * (Compression by bottleneck: Jin et al., Cluster 2009.)
 * @param now milliseconds of a monotonic clock
 * @param demand what share of the time this program is busy, from 0 to 1
 */
export function autoCodec(
  now: () => number = () => performance.now(),
  demand: () => number = threadDemand(now),
): CodecPolicy {
  // Where a codec begins before it has been tried: the order of magnitude of one core on pages of memory.
  const zstd: Estimate = { codec: CODEC.ZSTD, speed: 150e3, ratio: 0.3, triedAt: now() };
  const lz4: Estimate = { codec: CODEC.LZ4, speed: 270e3, ratio: 0.5, triedAt: now() };
  const none: Estimate = { codec: CODEC.NONE, speed: 3e6, ratio: 1, triedAt: now() };
  const all = [zstd, lz4, none];
  let current = zstd;
  let looked = 0;
  let wireInAll = 0;
  // Bytes and milliseconds, of late, of what had to wait for the link; their quotient is its rate.
  let wireBytes = 0;
  let wireMs = 0;
  let wireAt = Number.NEGATIVE_INFINITY;
  let linkSpare = 0;
  /** Of new bytes that were encoded. */
  let fresh: RecentRate | undefined;
  let shortAt = Number.NEGATIVE_INFINITY;

  const linkRate = () => (now() - wireAt < LINK_MEMORY_MS ? wireBytes / wireMs : Number.POSITIVE_INFINITY);
  const promise = ({ speed, ratio }: Estimate) => Math.min(speed, linkRate() / ratio);
  const isShortOfTime = () => {
    if (demand() > SHORT_OF_TIME) shortAt = now();
    return now() - shortAt < SHORT_MEMORY_MS;
  };
  const takesAll = () => fresh?.rate !== undefined && linkSpare > Math.max(FAST_LINK, fresh.rate);
  /** Whether the codec that makes the least of a page is fast enough by far: then no other can be worth a try. */
  const sufficient = () => current === zstd && zstd.speed > (linkRate() / zstd.ratio) * MARGIN;

  return {
    compresses: true,
    get fillsWindow() {
      return current === zstd;
    },
    get wantsXors() {
      return current !== none;
    },
    next() {
      if (isShortOfTime() && takesAll()) {
        current = none;
        return current.codec;
      }
      if (looked < FIRST_LOOK || wireInAll < FIRST_WIRE) return current.codec;
      if (sufficient()) return current.codec;
      const stale = all.find((estimate) => estimate !== none && now() - estimate.triedAt > PROBE_MS);
      if (stale) {
        stale.triedAt = now();
        return stale.codec;
      }
      const best = all.reduce((a, b) => (promise(b) > promise(a) ? b : a));
      if (promise(best) > promise(current) * ADVANTAGE) current = best;
      return current.codec;
    },
    encoded(codec, bytes, wire, ms) {
      fresh ??= new RecentRate(now);
      fresh.add(bytes);
      const estimate = all.find((candidate) => candidate.codec === codec);
      if (!estimate || bytes === 0) return;
      looked++;
      const weight = bytes / (bytes + (2 << 20));
      estimate.speed += (bytes / Math.max(ms, 0.1) - estimate.speed) * weight;
      estimate.ratio += (Math.max(wire, 1) / bytes - estimate.ratio) * weight;
      estimate.triedAt = now();
    },
    written(wire, ms, spare) {
      wireInAll += wire;
      linkSpare = spare;
      // What a buffer takes at once says nothing of the link: a guest's pages may just have been known for a while.
      if (ms < WAIT_MS) return;
      const at = now();
      const kept = Math.exp((wireAt - at) / MEMORY_MS);
      wireAt = at;
      wireBytes = wireBytes * kept + wire;
      wireMs = wireMs * kept + ms;
    },
  };
}
