import { openAge } from "../core/age/decrypt.ts";
import type { AgeIdentity } from "../core/age/keys.ts";
import { PAGE_SIZE } from "../core/content/page.ts";
import { acceptSession, type DestinationSession } from "../core/engine/destination-session.ts";
import type { Agreement } from "../core/engine/handshake.ts";
import type { ReceivedStream } from "../core/engine/received-streams.ts";
import type { ShrinkerError } from "../core/errors.ts";
import { nothingHere } from "../core/site/nothing.ts";
import { countBytes } from "../core/transport/count.ts";
import { findTransport } from "./addresses.ts";
import { discardingTarget } from "./discard.ts";
import { asError } from "./exit.ts";
import type { Report } from "./inspect-stream.ts";
import { describeSigner } from "./senders.ts";
import { WINDOW_LOG } from "./settings.ts";
import { bytesOf, hex, sessionTable } from "./summary.ts";
import { formatBytes } from "./units.ts";
import { software } from "./version.ts";

export interface InspectBundleOptions {
  readonly spoolDir: string;
  /** Keys for bundles that are encrypted. */
  readonly identities: readonly AgeIdentity[];
  readonly signal: AbortSignal;
}

/** Reads and verifies a bundle to its end, or to where it is damaged. Rejects where it can't be read at all. */
export async function inspectBundle(path: string, options: InspectBundleOptions): Promise<Report> {
  const { spoolDir, identities, signal } = options;
  const begun = performance.now();
  const { address, transport } = findTransport(`file:${path}`);
  const listener = await transport.listen(address, { signal });
  const connection = countBytes((await listener.accept())!);
  const opened = openAge(connection, identities);
  let session: DestinationSession | undefined;
  let outcomes: ReceivedStream[] = [];
  let broke: ShrinkerError | undefined;
  try {
    session = await acceptSession(opened.connection, {
      domain: undefined,
      windowLog: WINDOW_LOG,
      logLimit: Number.MAX_SAFE_INTEGER,
      software,
      signal,
      spoolDir,
      target: discardingTarget(),
      allOrNothing: false,
      openSite: nothingHere,
    });
    outcomes = await session.run();
  } catch (error) {
    broke = asError(error);
    outcomes = (await session?.receiver.outcomes()) ?? [];
  }
  if (signal.aborted && broke) throw broke;
  const error = broke ?? outcomes.find((outcome) => outcome.error)?.error;
  const { encrypted } = opened;
  const counters = session?.receiver.counters;
  // Only what was read to its end is proved to be by whom it says.
  const signer = session && !broke ? describeSigner(session.agreement.signed, undefined) : undefined;
  const streams = outcomes.map(describe);
  const event = {
    type: "inspected",
    kind: "bundle",
    path,
    ...(session && describeAgreement(session.agreement)),
    encrypted,
    ...signer?.event,
    complete: !error,
    ...(error && { code: error.code, message: error.message, offset: session?.offset ?? 0 }),
    ...(counters && { bytes: { ...bytesOf(counters), wire: connection.bytesIn } }),
    streams,
  };
  const by = session ? ` by ${session.agreement.software}, domain "${session.agreement.domain}"` : "";
  const state = error ? (encrypted && error.code === "input" ? "not opened" : "damaged") : "complete";
  const lines = [`${path}: ${encrypted ? "encrypted " : ""}bundle${by}, ${state}`];
  if (signer) lines.push(`  ${signer.line}`);
  if (session && counters) {
    const seconds = (performance.now() - begun) / 1000;
    const window = formatBytes(2 ** session.agreement.windowLog);
    lines.push(`  window ${window}, log of ${formatBytes(session.agreement.logLimit * PAGE_SIZE)}`);
    const summary = { counters, wire: connection.bytesIn, seconds, streams, error };
    lines.push(...sessionTable(summary, "in the bundle").map((line) => `  ${line}`));
  }
  return { event, lines, ...(error && { error }) };
}

function describeAgreement({ software, domain, windowLog, logLimit }: Agreement) {
  return { software, domain, window: 2 ** windowLog, log: logLimit };
}

function describe({ stream, error }: ReceivedStream) {
  return {
    ...stream.info,
    digest: hex(stream.digest),
    ...(stream.sha256 && { sha256: hex(stream.sha256) }),
    bytes: bytesOf(stream.counters),
    landed: false,
    complete: !error,
    ...(error && { error: { code: error.code, message: error.message } }),
  };
}
