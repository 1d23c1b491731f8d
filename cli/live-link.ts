import type { CodecName } from "../core/engine/codec-policy.ts";
import { type Counters, noCounters } from "../core/engine/counters.ts";
import { openSession, type SourceOptions } from "../core/engine/source-session.ts";
import { ShrinkerError } from "../core/errors.ts";
import type { ClusterLink } from "../core/handover/source/cluster-link.ts";
import { Mailbox } from "../core/handover/source/mailbox.ts";
import { interruptible } from "../core/interruptible.ts";
import type { Connection } from "../core/transport/transport.ts";
import { TunnelEntrance } from "../core/tunnel/entrance.ts";
import { carried, overCarrier } from "./carrier.ts";
import { chooseCodec } from "./codec.ts";
import type { Invocation } from "./command.ts";
import { followLink } from "./link-state.ts";
import { RETURNS, readDomain, readLogLimit, readSpoolDir, SPOOL_DIR, WINDOW_LOG } from "./settings.ts";
import { software } from "./version.ts";

/** Contents that may be referred to again, unless `--spool-limit` says otherwise. */
const SPOOL_LIMIT = 64 * 2 ** 30;

export interface LiveLinkOptions {
  /** Where guests go, as the user calls it. */
  readonly to: string;
  readonly dial: (signal: AbortSignal) => Promise<Connection>;
  /** Whether it can be dialled again for the same session. */
  readonly resumable: boolean;
  readonly compress: CodecName;
  /** Ends the sessions. Not the user's: guests that are on their way are taken back first, which the destination has to hear. */
  readonly over: AbortSignal;
}

/** The sessions over which guests move: one, and others where the destination has to be asked again. */
export interface LiveLinks {
  /** Opens one. Rejects with `refused` where the destination takes no guests. */
  open(): Promise<ClusterLink>;
  /** Bytes that went each way, over all of them. */
  wire(): number;
  /** Of the last one. */
  counters(): Counters;
  /** Whether there is no connection at the moment. */
  lost(): boolean;
  /** As `carried`, of the last one. */
  carrier(): ReturnType<typeof carried>;
}

export function liveLinks({ options, output, interrupt }: Invocation, linkOptions: LiveLinkOptions): LiveLinks {
  const { to, dial, resumable, compress, over } = linkOptions;
  const { signal } = interrupt;
  const link = followLink(output.note, output.event);
  let current: ClusterLink | undefined;
  let carrier: ReturnType<typeof carried> = {};
  let before = 0;
  const wire = () => before + (current ? current.session.wire.in + current.session.wire.out : 0);
  return {
    wire,
    counters: () => current?.session.sender.counters ?? noCounters(),
    lost: () => link.lost,
    carrier: () => carrier,
    async open() {
      before = wire();
      current = undefined;
      const mailbox = new Mailbox();
      const entrance = new TunnelEntrance();
      const settings: SourceOptions = {
        domain: readDomain(options),
        windowLog: WINDOW_LOG,
        logLimit: readLogLimit(options, SPOOL_LIMIT),
        software,
        signal: over,
        spoolDir: readSpoolDir(options, SPOOL_DIR),
        codec: chooseCodec(compress, false),
        returns: RETURNS,
        target: entrance.target,
        told: (payload) => mailbox.take(payload),
        redial: resumable ? dial : undefined,
        onLink: link.onLink,
      };
      const connection = await dial(signal);
      // The user may not want to wait for it; it is ended by its own signal.
      const session = await interruptible(openSession(connection, settings), signal);
      current = { session, mailbox, entrance };
      carrier = carried(connection);
      if (connection.carrier) output.note(`connected to ${to}${overCarrier(connection)}`);
      output.event({ type: "opened", peer: to, ...carrier, software: session.agreement.software });
      if (session.agreement.returns) return current;
      const error = new ShrinkerError("refused", `${to} takes no guests: start it with --vm NAME=qmp:SOCKET`);
      await session.abort(error);
      throw error;
    },
  };
}
