import { join } from "node:path";
import { ShrinkerError } from "../core/errors.ts";
import { type ClusterOptions, moveCluster } from "../core/handover/source/cluster.ts";
import { findTransport, openEndpoint } from "./addresses.ts";
import { readBandwidth } from "./bandwidth.ts";
import { readCompress } from "./codec.ts";
import type { Invocation } from "./command.ts";
import { overConnections } from "./connections.ts";
import { asError, exitCode } from "./exit.ts";
import { startFakes } from "./fakes.ts";
import { startGuardian } from "./guarding.ts";
import { beginGuests } from "./live-begin.ts";
import { liveLinks } from "./live-link.ts";
import { type LiveSpec, makeSocketFolder } from "./live-machines.ts";
import { FILE_OPTIONS, readDeparture } from "./live-options.ts";
import { watchGuests } from "./live-progress.ts";
import { type LiveSummary, liveEvent, liveTable, liveVerdict } from "./live-summary.ts";
import { needState, READ_AHEAD, readParallel, refuseOptions } from "./settings.ts";

/** How long the destination is asked whether a guest runs there that was given to it. */
export const SETTLE_MS = 60_000;
/** With one at a time the link is idle while a guest's last part is loaded; more would copy again what is written meanwhile. */
export const PARALLEL = 2;

/** Moves guests that run. */
export async function migrateLive(specs: readonly LiveSpec[], to: string, invocation: Invocation): Promise<number> {
  const { options, output, interrupt } = invocation;
  const { signal } = interrupt;
  const { address, transport: one, insecure } = await openEndpoint(to, invocation);
  if (address.scheme === "file")
    throw new ShrinkerError(
      "usage",
      "Guests that run can't go into a bundle: save their streams, or move them over a link",
    );
  refuseOptions(options, FILE_OPTIONS, "machines that are files");
  // Nor by the environment: who wants nothing to move must not have it moved.
  if (options.flag("dry-run")) throw new ShrinkerError("usage", "A guest that runs can't be moved as a dry run");
  const transport = overConnections(one, options);
  const state = needState(options);
  const limited = readBandwidth(options);
  const compress = readCompress(options, "auto");
  const parallel = readParallel(options, PARALLEL);
  const departure = readDeparture(options);
  const begun = performance.now();
  await using open = new AsyncDisposableStack();
  const sockets = open.use(await makeSocketFolder());
  const guests = open.use(await startFakes(specs, sockets.path));
  const { departing, left } = await beginGuests(guests, { state, to }, invocation);
  const endGuardian = startGuardian(
    state,
    departing.map(({ journal }) => journal.entry.id),
  );
  open.defer(async () => endGuardian());

  const over = new AbortController();
  const dial = async (reason: AbortSignal) => limited(await transport.dial(address, { signal: reason, insecure }));
  const links = liveLinks(invocation, { to, dial, resumable: transport.resumable, compress, over: over.signal });
  const watch = watchGuests(
    invocation,
    [...departing, ...left.given].map(({ name }) => name),
    () => ({ counters: links.counters(), wire: links.wire(), lost: links.lost() }),
  );
  const switched = new Set<string>();
  const noteGoesOn = () => {
    for (const name of switched)
      output.note(
        `${name}: goes on by post-copy, and can't be stopped any more. Interrupted again, it waits at ${to} for migrate --recover`,
      );
  };
  signal.addEventListener("abort", noteGoesOn);
  let socket = 0;
  const cluster: ClusterOptions = {
    ...departure,
    ...{ open: links.open, state, to, parallel, signal, settleMs: SETTLE_MS },
    listenLocal: () => {
      const local = findTransport(`unix:${join(sockets.path, `out-${++socket}`)}`);
      return local.transport.listen(local.address, { signal: over.signal, readAhead: READ_AHEAD });
    },
    onPhase: watch.phase,
    onStatus: watch.status,
    onPostcopy(name) {
      switched.add(name);
      output.event({ type: "postcopy", name });
      if (signal.aborted) noteGoesOn();
      else output.note(`${name}: goes on at ${to}, and the rest of its memory follows: don't end this`);
    },
    onUnsettled: (names, { message }) => output.note(`${message}. Asking again about ${names.join(", ")}`),
    onOutcome(outcome) {
      switched.delete(outcome.name);
      watch.outcome(outcome);
      if (outcome.where === "destination" && options.flag("keep-source"))
        output.note(`${outcome.name}: its QEMU stays here, stopped: end it, and never let it run again`);
    },
  };
  let summary: LiveSummary;
  try {
    const outcomes = await moveCluster(departing, left, cluster);
    summary = { outcomes, error: liveVerdict(outcomes) };
  } catch (thrown) {
    summary = { outcomes: [], error: asError(thrown) };
  } finally {
    signal.removeEventListener("abort", noteGoesOn);
    watch.stop();
    over.abort();
  }
  const seconds = (performance.now() - begun) / 1000;
  const sums = { counters: links.counters(), wire: links.wire(), seconds, compress, ...links.carrier() };
  output.result(liveTable(summary, sums));
  if (summary.error) output.error(summary.error);
  output.event({ type: "summary", ...liveEvent(summary, sums) });
  if (!summary.error) return 0;
  // That there is something to be done counts more than why it ended.
  return (summary.error.code === "unsettled" ? undefined : interrupt.code) ?? exitCode(summary.error);
}
