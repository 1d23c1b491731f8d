import { join } from "node:path";
import { noCounters } from "../core/engine/counters.ts";
import { openSession, type SourceOptions } from "../core/engine/source-session.ts";
import { abortReason, ShrinkerError } from "../core/errors.ts";
import { abandon, begin, type Departing } from "../core/handover/source/begin.ts";
import { type ClusterOptions, moveCluster } from "../core/handover/source/cluster.ts";
import type { ClusterLink } from "../core/handover/source/cluster-link.ts";
import { Mailbox } from "../core/handover/source/mailbox.ts";
import { takeUp } from "../core/handover/source/take-up.ts";
import { limitRate } from "../core/transport/limit.ts";
import { TunnelEntrance } from "../core/tunnel/entrance.ts";
import { findTransport, openEndpoint } from "./addresses.ts";
import { carried, overCarrier } from "./carrier.ts";
import { chooseCodec, readCompress } from "./codec.ts";
import type { Invocation } from "./command.ts";
import { overConnections } from "./connections.ts";
import { asError, exitCode } from "./exit.ts";
import { startFakes } from "./fakes.ts";
import { startGuardian } from "./guarding.ts";
import { followLink } from "./link-state.ts";
import { type LiveSpec, makeSocketFolder } from "./live-machines.ts";
import { watchGuests } from "./live-progress.ts";
import { type LiveSummary, liveEvent, liveTable, liveVerdict } from "./live-summary.ts";
import { parseChoice } from "./options.ts";
import {
  needState,
  READ_AHEAD,
  RETURNS,
  readDomain,
  readLogLimit,
  readSpoolDir,
  SPOOL_DIR,
  WINDOW_LOG,
} from "./settings.ts";
import { parseCount, parseDuration, parseRate } from "./units.ts";
import { software } from "./version.ts";

const MAX_PARALLEL = 64;
/** One at a time leaves the link idle while guests are handed over; more would copy again what is written meanwhile. */
const DEFAULT_PARALLEL = 2;
const ON_TIMEOUT = ["cancel", "stop", "postcopy"] as const;
const SWITCHOVER_MS = 5000;
/** How long the destination is asked whether a guest runs there that was given to it. */
const SETTLE_MS = 60_000;
/** Contents that may be referred to again, unless `--spool-limit` says otherwise. */
const SPOOL_LIMIT = 64 * 2 ** 30;

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
  const transport = overConnections(one, options);
  const state = needState(options);
  const bandwidth = options.read("bandwidth", parseRate);
  const compress = readCompress(options, "auto");
  const parallel = options.read("parallel", (text) => parseCount(text, MAX_PARALLEL)) ?? DEFAULT_PARALLEL;
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
  const recover = options.flag("recover");
  const begun = performance.now();
  await using open = new AsyncDisposableStack();
  const sockets = open.use(await makeSocketFolder());
  const guests = open.use(await startFakes(specs, sockets.path));
  const again = guests.sockets.find(({ qmp }, i) => guests.sockets.findIndex((other) => other.qmp === qmp) < i);
  if (again) throw new ShrinkerError("usage", `"qmp:${again.qmp}" is named twice`);

  // What an earlier run has left of these guests comes first, and all of them are looked at before anything is dialled.
  const left = await takeUp(
    state,
    guests.sockets.map(({ qmp }) => qmp),
  );
  for (const { name, postcopy } of left.given)
    output.note(
      `"${name}" was given away by an earlier run: ${postcopy ? "going on with its post-copy" : "asking the destination whether it runs there"}`,
    );
  if (recover && left.given.length === 0)
    throw new ShrinkerError(
      "input",
      `There is nothing to recover of qmp:${guests.sockets[0]?.qmp}: see \`shrinker list --migrations\``,
    );
  const departing: Departing[] = [];
  try {
    // Others of the same command may have moved, or stayed.
    const leaving = recover ? [] : guests.sockets.filter(({ qmp }) => left.given.every((entry) => entry.qmp !== qmp));
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
  const endGuardian = startGuardian(
    state,
    departing.map(({ journal }) => journal.entry.id),
  );
  open.defer(async () => endGuardian());

  const link = followLink(output.note, output.event);
  const over = new AbortController();
  let current: ClusterLink | undefined;
  let carrier: ReturnType<typeof carried> = {};
  let wireBefore = 0;
  const dial = async (reason: AbortSignal) => {
    const dialled = await transport.dial(address, { signal: reason, insecure });
    return bandwidth === undefined ? dialled : limitRate(dialled, bandwidth);
  };
  const wire = () => wireBefore + (current ? current.session.wire.in + current.session.wire.out : 0);
  const openLink = async (): Promise<ClusterLink> => {
    wireBefore = wire();
    current = undefined;
    const mailbox = new Mailbox();
    const entrance = new TunnelEntrance();
    const settings: SourceOptions = {
      domain: readDomain(options),
      windowLog: WINDOW_LOG,
      logLimit: readLogLimit(options, SPOOL_LIMIT),
      software,
      // Not the user's: guests that are on their way are taken back first, which the destination has to hear.
      signal: over.signal,
      spoolDir: readSpoolDir(options, SPOOL_DIR),
      codec: chooseCodec(compress, false),
      returns: RETURNS,
      target: entrance.target,
      told: (payload) => mailbox.take(payload),
      redial: transport.resumable ? dial : undefined,
      onLink: link.onLink,
    };
    const connection = await dial(signal);
    const session = await interruptible(openSession(connection, settings), signal);
    current = { session, mailbox, entrance };
    carrier = carried(connection);
    if (connection.carrier) output.note(`connected to ${to}${overCarrier(connection)}`);
    output.event({ type: "opened", peer: to, ...carrier, software: session.agreement.software });
    if (session.agreement.returns) return current;
    const error = new ShrinkerError("refused", `${to} takes no guests: start it with --vm NAME=qmp:SOCKET`);
    await session.abort(error);
    throw error;
  };

  const watch = watchGuests(
    invocation,
    [...departing, ...left.given].map(({ name }) => name),
    () => ({
      counters: current?.session.sender.counters ?? noCounters(),
      wire: wire(),
      lost: link.lost,
    }),
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
    ...{ open: openLink, state, to, parallel, signal, settleMs: SETTLE_MS },
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
  const counters = current?.session.sender.counters ?? noCounters();
  const sums = { counters, wire: wire(), seconds: (performance.now() - begun) / 1000, compress, ...carrier };
  output.result(liveTable(summary, sums));
  if (summary.error) output.error(summary.error);
  output.event({ type: "summary", ...liveEvent(summary, sums) });
  if (!summary.error) return 0;
  // That there is something to be done counts more than why it ended.
  return (summary.error.code === "unsettled" ? undefined : interrupt.code) ?? exitCode(summary.error);
}

/** A session that is being opened, for a user who may not want to wait for it; it is ended by its own signal. */
function interruptible<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const stopped = Promise.withResolvers<never>();
  const stop = () => stopped.reject(abortReason(signal));
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  return Promise.race([promise, stopped.promise]).finally(() => signal.removeEventListener("abort", stop));
}
