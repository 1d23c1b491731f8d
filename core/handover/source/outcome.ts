import { ShrinkerError } from "../../errors.ts";
import type { JournalEntry } from "../journal-entry.ts";
import { GuestLost } from "./recover-postcopy.ts";

/** How long a guest's departure took, in milliseconds. */
export interface Departed {
  readonly totalMs: number;
  /** From when the guest stopped here until it was known to run there; undefined for one that did not run. */
  readonly downtimeMs: number | undefined;
}

/**
 * Where a guest is in the end. `unknown`: it stands still at the source, and may run at the destination, or waits there for the rest
 * of its memory. `nowhere`: its QEMU at the source has ended, and there is no copy of it that could go on.
 */
export interface MoveOutcome {
  readonly name: string;
  readonly where: "source" | "destination" | "unknown" | "nowhere";
  readonly departed: Departed | undefined;
  /** Why it is not at the destination. */
  readonly error: ShrinkerError | undefined;
}

/** Of a guest that was given away, whose destination has not said that it runs there. */
export function unknown(entry: JournalEntry, why: unknown): MoveOutcome {
  return {
    name: entry.name,
    where: "unknown",
    departed: undefined,
    error: entry.postcopy ? interrupted(entry, why) : unsettled(entry, why),
  };
}

/** Of a guest whose copy died before it ran. */
export function lostCopy({ name }: Pick<JournalEntry, "name">, there: boolean, cause?: unknown): MoveOutcome {
  const what = "the destination has lost its copy before it ran";
  if (!there) return nowhere(name, new ShrinkerError("input", capital(what), { cause }));
  const message = `"${name}" goes on at the source: ${what}. Run it again to move it`;
  return { name, where: "source", departed: undefined, error: new ShrinkerError("input", message, { cause }) };
}

/** Of a guest whose QEMU has ended at the source before it was given away. */
export function nowhere(name: string, why: ShrinkerError): MoveOutcome {
  const message = `${why.message}. The QEMU of "${name}" has ended at the source: start the guest again`;
  return { name, where: "nowhere", departed: undefined, error: new ShrinkerError(why.code, message, { cause: why }) };
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

/** Nobody knows here whether the guest runs at the destination. */
function unsettled({ name, to }: JournalEntry, cause: unknown): ShrinkerError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message =
    `"${name}" was handed over to ${to}, but the destination has not said that it runs there: ${why}. ` +
    `It stands still here. Run the same command again, or see \`shrinker resolve ${name}\``;
  return new ShrinkerError("unsettled", message, { cause });
}

/** The guest has gone on at the destination, and not all of its memory is there. */
function interrupted({ name, to }: JournalEntry, cause: unknown): ShrinkerError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message =
    cause instanceof GuestLost
      ? `"${name}" is lost, which had begun to go on at ${to} by post-copy: ${why}. End what is left of it, then see \`shrinker resolve ${name}\``
      : `"${name}" was handed over to ${to} by post-copy, and not all of its memory is there: ${why}. ` +
        "It waits there for the rest. Run the same command again, with --recover";
  return new ShrinkerError("unsettled", message, { cause });
}
