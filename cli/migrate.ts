import { dirname } from "node:path";
import { autoCodec } from "../core/engine/auto-codec.ts";
import { CODEC_NAMES, type CodecName, type CodecPolicy, fixedCodec } from "../core/engine/codec-policy.ts";
import { noCounters } from "../core/engine/counters.ts";
import { type StreamOutcome, sendAll } from "../core/engine/migration.ts";
import { openSession, type SourceOptions, type SourceSession } from "../core/engine/session.ts";
import { ShrinkerError } from "../core/errors.ts";
import type { StreamSource } from "../core/machines/machine.ts";
import { segmentFormats } from "../core/segment/registry.ts";
import { countBytes } from "../core/transport/count.ts";
import { limitRate } from "../core/transport/limit.ts";
import { findTransport } from "./addresses.ts";
import type { Action } from "./command.ts";
import { discardingConnection } from "./discard.ts";
import { asError, exitCode, verdict } from "./exit.ts";
import { openMachines } from "./machines.ts";
import { type Options, parseChoice } from "./options.ts";
import { type Gauge, showProgress } from "./progress.ts";
import { readDomain, readLogLimit, readSpoolDir, SPOOL_DIR, WINDOW_LOG } from "./settings.ts";
import { bytesOf, hex, type SessionSummary, type StreamSummary, sessionEvent, sessionTable } from "./summary.ts";
import { parseCount, parseRate } from "./units.ts";
import { software } from "./version.ts";

const MAX_PARALLEL = 64;
const MIN_SPOOL_LIMIT = 4 * 2 ** 30;

/** Sends machines at rest to an address. */
export const migrate: Action = async ({ args, options, output, interrupt }) => {
  const { signal } = interrupt;
  const to = options.text("to");
  if (args.length === 0)
    throw new ShrinkerError("usage", "No machine to migrate: name files, as in the help's examples");
  if (to === undefined) throw new ShrinkerError("usage", "Where to? Give --to ADDRESS, such as --to tcp://HOST:PORT");
  const { address, transport } = findTransport(to);
  const bandwidth = options.read("bandwidth", parseRate);
  const parallel = options.read("parallel", (text) => parseCount(text, MAX_PARALLEL)) ?? 1;
  const format = options.read("format", parseChoice([...segmentFormats.keys()]));
  const compress = options.read("compress", parseChoice(CODEC_NAMES)) ?? "zstd";
  const dryRun = options.flag("dry-run");
  const recorded = dryRun || address.scheme === "file";
  const beside = address.scheme === "file" && address.rest !== "-" && !dryRun ? dirname(address.rest) : SPOOL_DIR;
  const settings = {
    domain: readDomain(options),
    windowLog: WINDOW_LOG,
    software,
    signal,
    spoolDir: readSpoolDir(options, beside),
    codec: chooseCodec(compress, recorded),
  };

  const sources = await openMachines(args, format, !options.flag("no-sha256"));
  const total = totalSize(sources);
  const logLimit = readLogLimit(options, Math.max(MIN_SPOOL_LIMIT, 2 * (total ?? 0)));

  const begun = performance.now();
  let phase = "connecting";
  let session: SourceSession | undefined;
  let broke: ShrinkerError | undefined;
  const outcomes = new Map<string, StreamOutcome>();
  const dialled = dryRun ? discardingConnection() : await transport.dial(address, { signal, ...dialOptions(options) });
  const connection = countBytes(dialled);
  const wire = () => connection.bytesIn + connection.bytesOut;
  const gauge = (): Gauge => {
    const counters = session?.sender.counters ?? noCounters();
    if (total !== undefined && counters.plain >= total && session) phase = "finishing";
    return { phase, counters, wire: wire(), done: counters.plain, total };
  };
  const progress = showProgress(output, !options.flag("no-progress"), gauge);
  try {
    const limited = bandwidth === undefined ? connection : limitRate(connection, bandwidth);
    session = await openSession(limited, { ...settings, logLimit } satisfies SourceOptions);
    phase = "sending";
    const { agreement } = session;
    output.event({ type: "opened", peer: connection.peer, software: agreement.software, domain: agreement.domain });
    const settled = (outcome: StreamOutcome) => {
      outcomes.set(outcome.name, outcome);
      const { name, error } = outcome;
      if (!connection.duplex) return;
      if (error) output.event({ type: "failed", name, code: error.code, message: error.message });
      else output.event({ type: "landed", name });
    };
    await sendAll(session, sources, connection.duplex, { parallel, signal, settled });
  } catch (error) {
    broke = asError(error);
    await session?.abort(broke);
  } finally {
    progress.stop();
  }

  // What is recorded is complete, or is not there at all.
  const lost = broke !== undefined && !connection.duplex;
  const streams = sources.map(({ info }) => summarize(info, outcomes.get(info.name), lost, dryRun));
  const complete = streams.every(({ landed }) => landed);
  const error = dryRun ? broke : verdict(streams, complete ? undefined : broke);
  const summary: SessionSummary = {
    counters: session?.sender.counters ?? noCounters(),
    wire: wire(),
    seconds: (performance.now() - begun) / 1000,
    streams,
    error,
    more: { compress, ...(dryRun && { dryRun }) },
  };
  if (!error || streams.some(({ landed }) => landed)) {
    const wireName = dryRun ? "would be sent" : recorded ? "in the bundle" : "on the wire";
    output.result(sessionTable(summary, wireName));
  }
  if (error) output.error(error);
  output.event({ type: "summary", ...sessionEvent(summary) });
  return error ? (interrupt.code ?? exitCode(error)) : 0;
};

function dialOptions(options: Options) {
  return { insecure: options.flag("insecure"), force: options.flag("force") };
}

/** What is recorded has no link whose speed could be weighed against the processor's. */
function chooseCodec(name: CodecName, recorded: boolean): CodecPolicy {
  if (name !== "auto") return fixedCodec(name);
  return recorded ? fixedCodec("zstd") : autoCodec();
}

function totalSize(sources: readonly StreamSource[]): number | undefined {
  let total = 0;
  for (const { info } of sources) {
    if (info.size === undefined) return undefined;
    total += info.size;
  }
  return total;
}

function summarize(
  { name, format }: StreamSource["info"],
  outcome: StreamOutcome | undefined,
  lost: boolean,
  dryRun: boolean,
): StreamSummary {
  const sent = outcome?.sent;
  return {
    name,
    format,
    ...(sent && { digest: hex(sent.digest), bytes: bytesOf(sent.counters) }),
    ...(sent?.sha256 && { sha256: hex(sent.sha256) }),
    landed: outcome !== undefined && !outcome.error && !lost && !dryRun,
    ...(outcome?.error && { error: { code: outcome.error.code, message: outcome.error.message } }),
  };
}
