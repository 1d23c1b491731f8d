import { dirname } from "node:path";
import { encryptTo } from "../core/age/encrypt.ts";
import { ShrinkerError } from "../core/errors.ts";
import { segmentFormats } from "../core/segment/registry.ts";
import { siteMemory } from "../core/site/site-memory.ts";
import { openEndpoint } from "./addresses.ts";
import { readAgainst } from "./against.ts";
import { readBandwidth } from "./bandwidth.ts";
import { chooseCodec, readCompress } from "./codec.ts";
import type { Action } from "./command.ts";
import { overConnections } from "./connections.ts";
import { discardingConnection } from "./discard.ts";
import { askDestination } from "./dry-run.ts";
import { readRecipients } from "./key-files.ts";
import { migrateLive } from "./live.ts";
import { parseLive } from "./live-machines.ts";
import { LIVE_OPTIONS } from "./live-options.ts";
import { closeMachines, openMachines } from "./machines.ts";
import { parseChoice } from "./options.ts";
import { send, totalSize } from "./send.ts";
import {
  readDomain,
  readLogLimit,
  readParallel,
  readSpoolDir,
  readState,
  refuseOptions,
  SPOOL_DIR,
  WINDOW_LOG,
} from "./settings.ts";
import { readSigner } from "./signing.ts";
import { software } from "./version.ts";

export const MIN_SPOOL_LIMIT = 4 * 2 ** 30;

/** Sends machines at rest to an address. */
export const migrate: Action = async (invocation) => {
  const { args, options, output, interrupt } = invocation;
  const { signal } = interrupt;
  const to = options.text("to");
  if (args.length === 0)
    throw new ShrinkerError("usage", "No machine to migrate: name files, as in the help's examples");
  if (to === undefined) throw new ShrinkerError("usage", "Where to? Give --to ADDRESS, such as --to tcp://HOST:PORT");
  const live = parseLive(args);
  if (live) return migrateLive(live, to, invocation);
  refuseOptions(options, LIVE_OPTIONS, "guests that run, as qmp:SOCKET");
  const { address, transport: one, insecure } = await openEndpoint(to, invocation);
  const transport = overConnections(one, options);
  const limited = readBandwidth(options);
  const parallel = readParallel(options, 1);
  const format = options.read("format", parseChoice([...segmentFormats.keys()]));
  const compress = readCompress(options, "zstd");
  const dryRun = options.flag("dry-run");
  const bundled = address.scheme === "file";
  const beside = bundled && address.rest !== "-" && !dryRun ? dirname(address.rest) : SPOOL_DIR;
  const domain = readDomain(options);
  const against = await readAgainst(options, domain, bundled);
  const recipients = await readRecipients(options, address);
  const signed = bundled && !dryRun ? await readSigner(options, recipients) : undefined;
  const settings = {
    domain,
    windowLog: WINDOW_LOG,
    software,
    signal,
    spoolDir: readSpoolDir(options, beside),
    codec: chooseCodec(compress, bundled || dryRun),
    ...against,
    signed,
  };

  const sources = await openMachines(args, { format, digest: options.flag("sha256"), signal });
  await using open = new AsyncDisposableStack();
  open.defer(() => closeMachines(sources));
  const total = totalSize(sources);
  const logLimit = readLogLimit(options, Math.max(MIN_SPOOL_LIMIT, 2 * (total ?? 0)));
  const state = bundled ? undefined : readState(options);
  const memory =
    state === undefined ? undefined : siteMemory({ folder: state, domain, plain: total, warn: output.note });
  const dialling = { signal, insecure, force: options.flag("force") };
  const dial = async (over = signal) => {
    const connection = await transport.dial(address, { ...dialling, signal: over });
    return recipients.length === 0 ? connection : encryptTo(connection, recipients);
  };
  const session = { ...settings, logLimit, memory };
  const asked = dryRun && !bundled ? await askDestination(await dial(), session) : undefined;
  if (asked) output.event(asked.event);
  const sending = {
    sources,
    total,
    dial: async () => (dryRun ? discardingConnection() : dial()),
    redial: transport.resumable && !dryRun ? dial : undefined,
    options: { ...session, ...asked?.options },
    parallel,
    limited,
    dryRun,
    wireName: dryRun ? "would be sent" : bundled ? "in the bundle" : "on the wire",
    more: () => ({
      compress,
      ...(recipients.length > 0 && !dryRun && { recipients: recipients.map(({ text }) => text) }),
      ...(bundled && !dryRun && { signed: signed ? { key: signed.key } : null }),
    }),
    ...(asked && { note: () => asked.note }),
    ...(!dryRun && (signed || recipients.length > 0) && { note: () => protection(signed?.key, recipients.length) }),
  };
  // Awaited here: what has been opened is closed after it.
  return await send(sending, invocation);
};

/** How a bundle is protected, for people. */
function protection(key: string | undefined, recipients: number): string {
  const signed = key === undefined ? "not signed" : `signed by ${key}`;
  return recipients === 0 ? signed : `${signed}, encrypted to ${recipients} ${recipients === 1 ? "key" : "keys"}`;
}
