import { ShrinkerError } from "../core/errors.ts";
import { abandon, begin, type Departing } from "../core/handover/source/begin.ts";
import { type Left, takeUp } from "../core/handover/source/take-up.ts";
import type { Invocation } from "./command.ts";
import type { StartedGuests } from "./fakes.ts";

export interface BegunGuests {
  /** Those that are about to leave. */
  readonly departing: readonly Departing[];
  /** What an earlier run has left of the guests. */
  readonly left: Left;
}

/**
 * Takes up what an earlier run has left of guests, which comes first, and looks at the others; all of them before anything is
 * dialled. Rejects with `usage` for guests that are called or named alike, with `input` where there is nothing to recover, and as
 * `takeUp` and `begin`; then no other is about to leave either.
 * @param state the state folder
 * @param to where they go
 */
export async function beginGuests(
  { sockets }: StartedGuests,
  { state, to }: { readonly state: string; readonly to: string },
  { options, output, interrupt }: Invocation,
): Promise<BegunGuests> {
  const { signal } = interrupt;
  const again = sockets.find(({ qmp }, i) => sockets.findIndex((other) => other.qmp === qmp) < i);
  if (again) throw new ShrinkerError("usage", `"qmp:${again.qmp}" is named twice`);
  const recover = options.flag("recover");
  const left = await takeUp(
    state,
    sockets.map(({ qmp }) => qmp),
  );
  for (const { name, postcopy } of left.given)
    output.note(
      `"${name}" was given away by an earlier run: ${postcopy ? "going on with its post-copy" : "asking the destination whether it runs there"}`,
    );
  if (recover && left.given.length === 0)
    throw new ShrinkerError(
      "input",
      `There is nothing to recover of qmp:${sockets[0]?.qmp}: see \`shrinker list --migrations\``,
    );
  const departing: Departing[] = [];
  try {
    // Others of the same command may have moved, or stayed.
    const leaving = recover ? [] : sockets.filter(({ qmp }) => left.given.every((entry) => entry.qmp !== qmp));
    const flags = { keepSource: options.flag("keep-source"), paused: options.flag("paused") };
    const sharedStorage = options.flag("shared-storage");
    const looks = await Promise.allSettled(
      leaving.map(({ name, qmp }) => begin({ name, qmp, state, to, ...flags, sharedStorage, signal })),
    );
    for (const look of looks) if (look.status === "fulfilled") departing.push(look.value);
    for (const look of looks) if (look.status === "rejected") throw look.reason;
    const names = [...departing, ...left.given].map(({ name }) => name);
    const twice = names.find((name, i) => names.indexOf(name) < i);
    if (twice !== undefined)
      throw new ShrinkerError("usage", `Two guests are called "${twice}": name one of them, as NAME=qmp:SOCKET`);
  } catch (error) {
    await Promise.all(departing.map(abandon));
    throw error;
  }
  return { departing, left };
}
