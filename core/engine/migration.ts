import { ShrinkerError } from "../errors.ts";
import type { StreamSource } from "../machines/machine.ts";
import { MAX_FILES, MAX_STREAMS } from "../wire/numbers.ts";
import type { Sender, SentStream } from "./sender.ts";
import type { SourceSession } from "./source-session.ts";
import { asShrinkerError } from "./told.ts";

/** What became of one machine's stream. */
export interface StreamOutcome {
  readonly name: string;
  /** Undefined where the destination has it. */
  readonly error: ShrinkerError | undefined;
  /** Undefined where it was not sent to its end. */
  readonly sent: SentStream | undefined;
}

export interface MigrationOptions {
  /** How many streams are sent at once, at most `MAX_STREAMS`; the others follow in their order. */
  readonly parallel: number;
  readonly signal: AbortSignal;
  /** Told what became of a stream as soon as that is known, also where the session breaks later. */
  readonly settled?: (outcome: StreamOutcome) => void;
}

/**
 * Sends machines at rest: the perform and finish phases of a migration. A stream that fails does not stop the others,
 * except in a recording, which is complete or is not made: its first failure is thrown. Rejects with `usage` for more than
 * `MAX_FILES`.
 */
export async function sendAll(
  session: SourceSession,
  sources: readonly StreamSource[],
  duplex: boolean,
  options: MigrationOptions,
): Promise<StreamOutcome[]> {
  if (sources.length > MAX_FILES)
    throw new ShrinkerError(
      "usage",
      `A session takes at most ${MAX_FILES} machines, not ${sources.length}: use several`,
    );
  const outcomes = new Array<Promise<StreamOutcome>>(sources.length);
  let next = 0;
  const work = async () => {
    while (next < sources.length) {
      const i = next++;
      const sent = sendOne(session.sender, sources[i]!, duplex, options.signal);
      outcomes[i] = sent.then(({ outcome }) => outcome);
      void outcomes[i].then(options.settled, () => {});
      // The outcome is known when it has landed; the next stream need not wait for that.
      await sent;
    }
  };
  await Promise.all(Array.from({ length: Math.min(Math.max(1, options.parallel), MAX_STREAMS) }, work));
  await session.finish(sources.length);
  return Promise.all(outcomes);
}

async function sendOne(
  sender: Sender,
  source: StreamSource,
  duplex: boolean,
  signal: AbortSignal,
): Promise<{ outcome: Promise<StreamOutcome> }> {
  const { name } = source.info;
  const failed = (error: unknown, sent?: SentStream): StreamOutcome => ({ name, error: asShrinkerError(error), sent });
  try {
    const sent = await sender.send(source, signal);
    const outcome = sent.landed.then(
      () => ({ name, error: undefined, sent }),
      (error) => failed(error, sent),
    );
    return { outcome };
  } catch (error) {
    if (!duplex) throw error;
    return { outcome: Promise.resolve(failed(error)) };
  }
}
