import { type ErrorCode, ShrinkerError } from "../core/errors.ts";

/** Exit codes by error code; docs/cli.md fixes them for good. */
const EXIT: Record<ErrorCode, number> = {
  usage: 2,
  input: 3,
  refused: 4,
  link: 5,
  integrity: 6,
  exists: 7,
  space: 8,
  partial: 9,
  // Somebody at the other end cancelled; where it was a signal here, the signal's own code is used.
  cancelled: 5,
  unsettled: 10,
  timeout: 11,
  bug: 70,
};

export function exitCode(error: ShrinkerError | undefined): number {
  return error ? EXIT[error.code] : 0;
}

/** Anything that was thrown, as an error with a code: what nobody foresaw is a bug. */
export function asError(thrown: unknown): ShrinkerError {
  if (thrown instanceof ShrinkerError) return thrown;
  const what = thrown instanceof Error ? thrown.message : String(thrown);
  const message = `Internal error: ${what} (please report it, with what SHRINKER_DEBUG=1 prints)`;
  return new ShrinkerError("bug", message, { cause: thrown });
}

/** What became of one stream, as far as the exit code needs it. */
export interface Fate {
  readonly name: string;
  readonly landed: boolean;
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

/**
 * What a session with these streams ends with: nothing where all have landed, the first error where none has, else
 * `partial` with what is missing and why.
 * @param broke what ended the session before its time, so that there may be streams that nobody knows of
 * @param done what can be said of those that made it
 */
export function verdict(
  fates: readonly Fate[],
  broke: ShrinkerError | undefined,
  done = "streams landed",
): ShrinkerError | undefined {
  const missing = fates.filter(({ landed }) => !landed);
  const landed = fates.length - missing.length;
  if (missing.length === 0 && !broke) return undefined;
  // With --all-or-nothing the others only fail because one did.
  const errors = missing.flatMap(({ error }) => error ?? []);
  const because = errors.find(({ code }) => code !== "partial") ?? errors[0];
  if (landed === 0) return broke ?? new ShrinkerError(because?.code ?? "bug", because?.message ?? "Nothing has landed");
  const why = broke?.message ?? because?.message ?? "";
  if (missing.length === 0) return new ShrinkerError("partial", `${landed} ${done}, but more may be missing: ${why}`);
  const names = missing.map(({ name }) => `"${name}"`).join(", ");
  return new ShrinkerError("partial", `${landed} of ${fates.length} ${done}, ${names} did not: ${why}`);
}
