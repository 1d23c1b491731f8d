import type { Sender } from "../core/engine/sender.ts";
import type { ArrivalSession } from "../core/handover/destination/arrivals.ts";
import type { StreamTarget } from "../core/machines/machine.ts";
import { exitTarget, type TunnelExit } from "../core/tunnel/exit.ts";

export interface TargetOptions {
  /** Where files go. */
  readonly target: StreamTarget;
  /** Where connections may go, by the service's name. */
  readonly services?: TunnelExit["services"] | undefined;
  /** Whether nothing is kept, so that nothing can land. */
  readonly dryRun: boolean;
  /** Told what happens, as an event. */
  readonly event: (event: object) => void;
}

/** Streams go to their files, connections to their services, and those of guests to their QEMUs. */
export function receivingTarget(
  options: TargetOptions,
  guests: ArrivalSession | undefined,
  sender: () => Sender | undefined,
): StreamTarget {
  const others = observed(options.target, options);
  const { services, event } = options;
  if (!services && !guests) return others;
  const connected = (service: string) => event({ type: "connection", service });
  const find = (name: string) => guests?.services(name) ?? services?.(name);
  return exitTarget({ services: find, sender, others, connected });
}

/** Tells when a stream gets its name. */
function observed(target: StreamTarget, { event, dryRun }: TargetOptions): StreamTarget {
  if (dryRun) return target;
  return {
    async open(info, failed) {
      const sink = await target.open(info, failed);
      const commit = async () => {
        await sink.commit();
        event({ type: "landed", name: info.name });
      };
      return { ...sink, commit };
    },
  };
}
