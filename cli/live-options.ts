import { ShrinkerError } from "../core/errors.ts";
import type { DepartureOptions } from "../core/handover/source/departure-context.ts";
import { type Options, parseChoice } from "./options.ts";
import { parseDuration } from "./units.ts";

/** What `migrate` has for guests that run alone. */
export const LIVE_OPTIONS: readonly string[] = [
  ...["downtime-limit", "timeout", "on-timeout", "recover", "auto-converge", "switchover-timeout"],
  ...["keep-source", "paused", "shared-storage"],
];
/** What it has for files alone. */
export const FILE_OPTIONS: readonly string[] = [
  ...["format", "against", "encrypt-to", "no-sign", "force", "dry-run", "sha256"],
];

const ON_TIMEOUT = ["cancel", "stop", "postcopy"] as const;
export const SWITCHOVER_MS = 5000;

/** How guests are to be copied, and for how long. Throws `usage` for what makes no sense together. */
export function readDeparture(options: Options): DepartureOptions {
  const departure = {
    downtimeLimitMs: options.read("downtime-limit", parseDuration),
    autoConverge: options.flag("auto-converge"),
    timeoutMs: options.read("timeout", parseDuration),
    onTimeout: options.read("on-timeout", parseChoice(ON_TIMEOUT)) ?? "cancel",
    switchoverTimeoutMs: options.read("switchover-timeout", parseDuration) ?? SWITCHOVER_MS,
  };
  if (options.given("on-timeout") && departure.timeoutMs === undefined)
    throw new ShrinkerError(
      "usage",
      "--on-timeout says what to do after a --timeout: give that as well, such as --timeout 30s",
    );
  return departure;
}
