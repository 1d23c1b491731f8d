import { openSession, type SourceSession } from "../core/engine/session.ts";
import { LinkError, ShrinkerError } from "../core/errors.ts";
import { countBytes } from "../core/transport/count.ts";
import { limitRate } from "../core/transport/limit.ts";
import type { Listener } from "../core/transport/transport.ts";
import { TunnelEntrance } from "../core/tunnel/entrance.ts";
import { MAX_STREAMS } from "../core/wire/numbers.ts";
import { findTransport } from "./addresses.ts";
import { chooseCodec, readCompress } from "./codec.ts";
import type { Action } from "./command.ts";
import { asError, exitCode } from "./exit.ts";
import { showProgress } from "./progress.ts";
import { parseServices, type ServiceSpec } from "./services.ts";
import { RETURNS, readDomain, readLogLimit, readSpoolDir, SPOOL_DIR, WINDOW_LOG } from "./settings.ts";
import { sessionEvent, sessionTable } from "./summary.ts";
import { parseRate } from "./units.ts";
import { software } from "./version.ts";

/** Contents that may be referred to again, unless `--spool-limit` says otherwise. */
const SPOOL_LIMIT = 16 * 2 ** 30;

/** Listens for connections to services, and carries them to the receiver that offers these, deduplicated. */
export const tunnel: Action = async ({ args, options, output, interrupt }) => {
  const { signal } = interrupt;
  const to = options.text("to");
  if (args.length > 0)
    throw new ShrinkerError("usage", `Unknown argument "${args[0]}": services are named by --service`);
  if (to === undefined) throw new ShrinkerError("usage", "Where to? Give --to ADDRESS, such as --to tcp://HOST:PORT");
  const services = parseServices(options.all("service"));
  if (services.length === 0)
    throw new ShrinkerError("usage", "Which connections? Give --service NAME=unix:PATH; the receiver offers the NAME");
  const { address, transport } = findTransport(to);
  if (address.scheme === "file")
    throw new ShrinkerError("usage", `Cannot tunnel to "${to}": a bundle gives no answers`);
  const bandwidth = options.read("bandwidth", parseRate);
  const compress = readCompress(options, "auto");
  const once = options.flag("once");
  const entrance = new TunnelEntrance();
  const begun = performance.now();

  // All of them listen before anything is dialled: an address that can't be used is told at once.
  const listeners: Listener[] = [];
  const closeAll = () => Promise.all(listeners.map((listener) => listener.close()));
  await using open = new AsyncDisposableStack();
  open.defer(async () => void (await closeAll()));
  for (const service of services) listeners.push(await listen(service, signal));
  const connection = countBytes(await transport.dial(address, { signal, insecure: options.flag("insecure") }));
  const wire = () => connection.bytesIn + connection.bytesOut;
  const session = await openSession(bandwidth === undefined ? connection : limitRate(connection, bandwidth), {
    domain: readDomain(options),
    windowLog: WINDOW_LOG,
    logLimit: readLogLimit(options, SPOOL_LIMIT),
    software,
    signal,
    spoolDir: readSpoolDir(options, SPOOL_DIR),
    codec: chooseCodec(compress, false),
    returns: RETURNS,
    target: entrance.target,
  });
  output.event({ type: "opened", peer: connection.peer, software: session.agreement.software });
  services.forEach(({ name }, i) => {
    const { address } = listeners[i]!;
    output.note(`${name}: listening on ${address}`);
    output.event({ type: "listening", service: name, address });
  });
  const progress = showProgress(output, !options.flag("no-progress"), () => {
    const { counters } = session.sender;
    const phase = `${entrance.size} connections`;
    return { phase, counters, wire: wire(), done: counters.plain, total: undefined };
  });

  const carried = { connections: 0, failed: 0 };
  const running = new Set<Promise<void>>();
  const done = Promise.withResolvers<void>();
  const serve = async ({ name, format }: ServiceSpec, listener: Listener) => {
    for (;;) {
      // Further ones wait at the socket.
      while (running.size >= MAX_STREAMS) await Promise.race(running);
      const local = await listener.accept();
      if (!local) return;
      const number = ++carried.connections;
      output.event({ type: "connection", service: name, connection: number });
      const carry = entrance.carry(session.sender, local, { service: name, format, signal }).then(
        () => output.event({ type: "closed", service: name, connection: number }),
        (thrown) => {
          const { code, message } = asError(thrown);
          carried.failed++;
          output.note(`${name}: connection ${number} broke: ${message}`);
          output.event({ type: "broken", service: name, connection: number, code, message });
        },
      );
      running.add(carry);
      void carry.finally(() => {
        running.delete(carry);
        if (once && running.size === 0) done.resolve();
      });
    }
  };
  let error: ShrinkerError | undefined;
  try {
    if (!session.agreement.returns)
      throw new ShrinkerError("refused", `${connection.peer} offers no services: start it with --service NAME=ADDRESS`);
    await Promise.race([done.promise, session.failed, ...services.map((service, i) => serve(service, listeners[i]!))]);
    await closeAll();
    await finish(session, running);
  } catch (thrown) {
    error = asError(thrown);
    await session.abort(error);
  } finally {
    progress.stop();
  }
  await closeAll();
  await Promise.all(running);
  const { counters } = session.sender;
  const seconds = (performance.now() - begun) / 1000;
  const summary = { counters, wire: wire(), seconds, streams: [], error, more: { compress, ...carried } };
  output.result(sessionTable(summary));
  if (error && !signal.aborted) output.error(error);
  output.event({ type: "summary", ...sessionEvent(summary) });
  return error ? (interrupt.code ?? exitCode(error)) : 0;
};

/** Ends the session once its connections have ended. */
async function finish(session: SourceSession, running: Set<Promise<void>>): Promise<void> {
  await Promise.race([Promise.all(running), session.failed]);
  await Promise.race([session.finish(0), session.failed]);
}

async function listen({ address }: ServiceSpec, signal: AbortSignal): Promise<Listener> {
  const { transport } = findTransport(address.text);
  try {
    return await transport.listen(address, { signal, insecure: true });
  } catch (error) {
    throw error instanceof ShrinkerError ? error : new LinkError(`Cannot listen at ${address.text}`, { cause: error });
  }
}
