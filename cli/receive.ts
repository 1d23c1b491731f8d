import { ResumableSessions } from "../core/engine/resumable.ts";
import { LinkError, ShrinkerError } from "../core/errors.ts";
import { standardOutputTarget } from "../core/machines/image/stdout.ts";
import { directoryTarget } from "../core/machines/image/target.ts";
import type { StreamTarget } from "../core/machines/machine.ts";
import type { DialService } from "../core/tunnel/exit.ts";
import type { Signed } from "../core/wire/control.ts";
import { proveBundle, readBundle, readBundleKeys } from "./bundles.ts";
import { carried, overCarrier } from "./carrier.ts";
import type { Action } from "./command.ts";
import { serve } from "./daemon.ts";
import { discardingTarget } from "./discard.ts";
import { makeFolder } from "./folders.ts";
import { followLink } from "./link-state.ts";
import { asPermitted } from "./peers.ts";
import { receiveOnce } from "./receive-once.ts";
import { bundleSize, listen, readOrigin } from "./receive-origin.ts";
import type { ReceivingOptions } from "./receive-session.ts";
import { describeSigner } from "./senders.ts";
import { parseServices, type ServiceSpec, serviceDialler } from "./services.ts";
import { RETURNS, readDomain, readLogLimit, readSpoolDir, SPOOL_DIR, WINDOW_LOG } from "./settings.ts";
import { siteOpener } from "./sites.ts";
import { parseCount } from "./units.ts";
import { software } from "./version.ts";
import { openArrivals } from "./vms.ts";
import { welcomeBack } from "./welcome-back.ts";

export const MAX_SESSIONS = 1024;
export const DEFAULT_SESSIONS = 8;
/** What a source may ask for, unless `--spool-limit` says otherwise. */
export const SPOOL_LIMIT = 64 * 2 ** 30;

/** Receives machines: from a bundle, over stdin and stdout, or as a daemon. */
export const receive: Action = async (invocation) => {
  const { args, options, output, interrupt } = invocation;
  const { signal } = interrupt;
  const origin = readOrigin(args, options);
  const once = origin.kind !== "listen" || options.flag("once");
  const dryRun = options.flag("dry-run");
  const maxSessions = options.read("max-sessions", (text) => parseCount(text, MAX_SESSIONS)) ?? DEFAULT_SESSIONS;
  const directory = options.text("output");
  const services = parseServices(options.all("service"), "dials");
  await using guests = await openArrivals(options, output, signal);
  const connects = services.length > 0 || guests !== undefined;
  if (dryRun && origin.kind !== "bundle")
    throw new ShrinkerError("usage", "--dry-run verifies a bundle: give it as file:BUNDLE");
  if (connects && origin.kind === "bundle")
    throw new ShrinkerError("usage", "--service is for sessions over a link: a bundle holds no connections");
  if (!dryRun && !connects && directory === undefined)
    throw new ShrinkerError("usage", "Where to put what arrives? Give --output DIR");
  if (directory === "-" && (!once || origin.kind === "stdio"))
    throw new ShrinkerError("usage", "--output - is for one session: receive a bundle, or listen with --once");
  if (options.given("trust") && origin.kind !== "bundle")
    throw new ShrinkerError("usage", "--trust is for bundles: a link proves by itself who is there");
  const keys = origin.kind === "bundle" ? await readBundleKeys(options) : undefined;
  if (keys?.trusted && origin.kind === "bundle" && directory === "-" && !dryRun)
    await proveBundle(origin.text, keys, signal);
  const domain = readDomain(options);
  const inFolder = !dryRun && directory !== undefined && directory !== "-";
  const receiving: ReceivingOptions = {
    domain,
    windowLog: WINDOW_LOG,
    logLimit: readLogLimit(options, SPOOL_LIMIT),
    spoolDir: readSpoolDir(options, inFolder ? directory : SPOOL_DIR),
    software,
    signal,
    allOrNothing: options.flag("all-or-nothing"),
    openSite: await siteOpener(options, { domain, signal, note: output.note, keep: !dryRun }),
    target: inFolder
      ? directoryTarget(directory, { force: options.flag("force"), digest: options.flag("sha256") })
      : dryRun
        ? discardingTarget()
        : directory === undefined
          ? refusingTarget
          : standardOutputTarget(),
    ...(connects && { services: serviceTable(services), returns: RETURNS, arrivals: guests?.arrivals }),
    dryRun,
    event: output.event,
  };

  const listener = await listen(origin, invocation);
  if (inFolder) await makeFolder(directory);
  if (origin.kind === "listen") {
    output.note(`listening on ${listener.address}${overCarrier(listener)}`);
    output.event({ type: "listening", address: listener.address, ...carried(listener) });
  }
  // Awaited here: what has been opened is closed after it.
  if (!once) return await serve(listener, receiving, { maxSessions, output, interrupt });
  const connection = await listener.accept();
  if (!connection) throw new LinkError(`Nobody came to ${listener.address}`);
  if (connection.carrier) output.note(`${connection.peer} has come${overCarrier(connection)}`);
  const wireName = connection.duplex ? "on the wire" : "in the bundle";
  if (keys) {
    await listener.close();
    const bundle = readBundle(connection, keys);
    const proving = {
      checkSigner: bundle.checkSigner,
      describeSigner: (signed: Signed | undefined) => describeSigner(signed, keys.trusted),
    };
    return await receiveOnce(bundle.connection, { ...receiving, ...proving }, bundleSize(origin), wireName, invocation);
  }
  if (origin.kind !== "listen") {
    await listener.close();
    return await receiveOnce(connection, receiving, undefined, wireName, invocation);
  }
  const resumables = new ResumableSessions(1);
  const { onLink } = followLink(output.note, output.event);
  const resumable = { ...receiving, resumables, onLink };
  const permitted = asPermitted(resumable, connection.identity);
  const others = welcomeBack(listener, resumable).catch(() => {});
  const code = await receiveOnce(connection, permitted, undefined, wireName, invocation);
  await listener.close();
  await others;
  return code;
};

/** Of a receiver that only takes connections. */
const refusingTarget: StreamTarget = {
  open: async ({ name }) => {
    throw new ShrinkerError("refused", `"${name}" has no place there: start the receiver with --output DIR`);
  },
};

function serviceTable(specs: readonly ServiceSpec[]): (name: string) => DialService | undefined {
  const table = new Map(specs.map((spec) => [spec.name, serviceDialler(spec)]));
  return (name) => table.get(name);
}
