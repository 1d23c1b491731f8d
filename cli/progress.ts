import type { Counters } from "../core/engine/counters.ts";
import { type Output, write } from "./output.ts";
import { harmless } from "./text.ts";
import { formatBytes, formatRate, formatSeconds } from "./units.ts";

/** Where a command stands. */
export interface Gauge {
  readonly phase: string;
  readonly counters: Counters;
  readonly wire: number;
  /** How much of `total` is done, in the same unit; `total` is undefined where nobody knows. */
  readonly done: number;
  readonly total: number | undefined;
}

const TERMINAL_MS = 250;
const JSON_MS = 500;
/** Seconds over which the rate is averaged. */
const RATE_SECONDS = 4;

/**
 * Shows where a command stands until it is stopped: one line on a terminal, events with `--json`, else nothing.
 * @param wanted false with `--no-progress`
 */
export function showProgress(output: Output, wanted: boolean, gauge: () => Gauge): { stop(): void } {
  const terminal = process.stderr.isTTY && !output.json && !output.quiet;
  if (!wanted || (!terminal && !output.json)) return { stop() {} };
  const describe = describer();
  const begun = performance.now();
  let width = 0;
  const draw = (text: string) => {
    const most = Math.max(20, (process.stderr.columns || 80) - 1);
    const line = harmless(text).slice(0, most);
    write(process.stderr, `\r${line.padEnd(Math.min(width, most))}`);
    width = line.length;
  };
  const timer = setInterval(
    () => {
      const now = gauge();
      const seconds = (performance.now() - begun) / 1000;
      const { percent, rate, left, text } = describe(now, seconds);
      if (terminal) return draw(text);
      const { plain, zero, deduplicated, fresh } = now.counters;
      const bytes = { plain, zero, deduplicated, new: fresh, wire: now.wire };
      output.event({ type: "progress", phase: now.phase, percent, bytes, rate, left, seconds: round(seconds) });
    },
    terminal ? TERMINAL_MS : JSON_MS,
  );
  return {
    stop() {
      clearInterval(timer);
      if (terminal && width > 0) write(process.stderr, `\r${" ".repeat(width)}\r`);
    },
  };
}

/** Turns gauges into words. What is shown never goes backwards, though a stream that fails takes its bytes with it. */
export function describer() {
  let most = 0;
  const plainRate = movingRate();
  const doneRate = movingRate();
  return ({ phase, counters, wire, done, total }: Gauge, seconds: number) => {
    const rate = plainRate(counters.plain, seconds);
    const speed = doneRate(done, seconds);
    if (total) most = Math.max(most, Math.min(100, (100 * done) / total));
    const percent = total ? Math.floor(most) : null;
    const left = total && speed > 0 ? Math.max(0, Math.round((total - done) / speed)) : null;
    const parts = [
      percent === null ? phase : `${phase} ${percent} %`,
      `${formatBytes(counters.plain)} read`,
      `${formatBytes(counters.zero)} zero`,
      `${formatBytes(counters.deduplicated)} deduplicated`,
      `${formatBytes(wire)} sent`,
      formatRate(rate),
      ...(left === null ? [] : [`${formatSeconds(left)} left`]),
    ];
    return { percent, rate: Math.round(rate), left, text: parts.join(", ") };
  };
}

/** How much a growing value gains a second: an exponentially weighted mean over about `RATE_SECONDS`. */
function movingRate(): (value: number, seconds: number) => number {
  let rate = 0;
  let last = { value: 0, seconds: 0 };
  return (value, seconds) => {
    const elapsed = seconds - last.seconds;
    if (elapsed > 0) {
      const weight = last.seconds === 0 ? 1 : 1 - Math.exp(-elapsed / RATE_SECONDS);
      rate += (Math.max(0, value - last.value) / elapsed - rate) * weight;
      last = { value, seconds };
    }
    return rate;
  };
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
