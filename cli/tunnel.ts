import { openSession, type SourceSession } from "../core/engine/source-session.ts";
import { LinkError, ShrinkerError } from "../core/errors.ts";
import type { Listener } from "../core/transport/transport.ts";
import { TunnelEntrance } from "../core/tunnel/entrance.ts";
import { findTransport, openEndpoint } from "./addresses.ts";
import { readBandwidth } from "./bandwidth.ts";
import { carried, overCarrier } from "./carrier.ts";
import { chooseCodec, readCompress } from "./codec.ts";
import type { Action } from "./command.ts";
import { overConnections } from "./connections.ts";
import { asError, exitCode } from "./exit.ts";
import { type Entry, Forwarder } from "./forward.ts";
import { followLink } from "./link-state.ts";
import type { Options } from "./options.ts";
import { showProgress } from "./progress.ts";
import { parseServices, type ServiceSpec } from "./services.ts";
import { READ_AHEAD, RETURNS, readDomain, readLogLimit, readSpoolDir, SPOOL_DIR, WINDOW_LOG } from "./settings.ts";
import { sessionEvent, sessionTable } from "./summary.ts";
import { software } from "./version.ts";

/** Contents that may be referred to again, unless `--spool-limit` says otherwise. */
const SPOOL_LIMIT = 16 * 2 ** 30;

/** Listens for connections to services, and carries them to the receiver that offers these, deduplicated. */
export const tunnel: Action = async (invocation) => {
  const { args, options, output, interrupt } = invocation;
  const { signal } = interrupt;
  const { to, services } = readWhat(args, options);
  const { address, transport: one, insecure } = await openEndpoint(to, invocation);
  const transport = overConnections(one, options);
  const limited = readBandwidth(options);
  const compress = readCompress(options, "auto");
  const greeting = {
    domain: readDomain(options),
    windowLog: WINDOW_LOG,
    logLimit: readLogLimit(options, SPOOL_LIMIT),
    spoolDir: readSpoolDir(options, SPOOL_DIR),
    codec: chooseCodec(compress, false),
    returns: RETURNS,
    software,
    signal,
  };
  const entrance = new TunnelEntrance();
  const begun = performance.now();

  // All of them listen before anything is dialled: an address that can't be used is told at once.
  await using listeners = new AsyncDisposableStack();
  const entries: Entry[] = [];
  for (const service of services) {
    const listener = await listen(service, signal);
    listeners.defer(() => listener.close());
    entries.push([service, listener]);
  }
  const dial = async (over = signal) => limited(await transport.dial(address, { signal: over, insecure }));
  const connection = await dial();
  const link = followLink(output.note, output.event);
  const session = await openSession(connection, {
    ...greeting,
    target: entrance.target,
    redial: transport.resumable ? dial : undefined,
    onLink: link.onLink,
  });
  const wire = () => session.wire.in + session.wire.out;
  const { counters } = session.sender;
  const progress = showProgress(output, !options.flag("no-progress"), () => {
    const phase = link.lost ? "reconnecting" : `${entrance.size} connections`;
    return { phase, counters, wire: wire(), done: counters.plain, total: undefined };
  });

  let forwarder: Forwarder | undefined;
  let error: ShrinkerError | undefined;
  try {
    if (!session.agreement.returns)
      throw new ShrinkerError("refused", `${connection.peer} offers no services: start it with --service NAME=ADDRESS`);
    output.event({
      type: "opened",
      peer: connection.peer,
      ...carried(connection),
      software: session.agreement.software,
    });
    if (connection.carrier) output.note(`connected to ${connection.peer}${overCarrier(connection)}`);
    for (const [{ name }, { address }] of entries) {
      output.note(`${name}: listening on ${address}`);
      output.event({ type: "listening", service: name, address });
    }
    forwarder = new Forwarder(entries, { entrance, sender: session.sender, output });
    const { accepting, idle } = forwarder;
    await Promise.race([session.failed, accepting, ...(options.flag("once") ? [idle] : [])]);
    await finish(session, forwarder);
    // There was one thing to do, so whether it was done is what the exit code says.
    if (options.flag("once")) error = forwarder.failure;
  } catch (thrown) {
    error = asError(thrown);
    await session.abort(error);
    await forwarder?.end();
  } finally {
    progress.stop();
  }
  const seconds = (performance.now() - begun) / 1000;
  const more = { ...carried(connection), compress, ...(forwarder?.counts ?? { connections: 0, failed: 0 }) };
  const summary = { counters, wire: wire(), seconds, streams: [], error, more };
  output.result(sessionTable(summary));
  if (error && !signal.aborted) output.error(error);
  output.event({ type: "summary", ...sessionEvent(summary) });
  return error ? (interrupt.code ?? exitCode(error)) : 0;
};

function readWhat(args: readonly string[], options: Options) {
  const text = options.text("to");
  if (args.length > 0)
    throw new ShrinkerError("usage", `Unknown argument "${args[0]}": services are named by --service`);
  if (text === undefined) throw new ShrinkerError("usage", "Where to? Give --to ADDRESS, such as --to tcp://HOST:PORT");
  const services = parseServices(options.all("service"), "listens");
  if (services.length === 0)
    throw new ShrinkerError("usage", "Which connections? Give --service NAME=unix:PATH; the receiver offers the NAME");
  if (findTransport(text).address.scheme === "file")
    throw new ShrinkerError("usage", `Cannot tunnel to "${text}": a bundle gives no answers`);
  return { to: text, services };
}

/** Ends the session once its connections have ended. */
async function finish(session: SourceSession, forwarder: Forwarder): Promise<void> {
  await Promise.race([forwarder.end(), session.failed]);
  await Promise.race([session.finish(0), session.failed]);
}

async function listen({ address }: ServiceSpec, signal: AbortSignal): Promise<Listener> {
  const { transport } = findTransport(address.text);
  try {
    return await transport.listen(address, { signal, insecure: true, readAhead: READ_AHEAD });
  } catch (error) {
    throw error instanceof ShrinkerError ? error : new LinkError(`Cannot listen at ${address.text}`, { cause: error });
  }
}
