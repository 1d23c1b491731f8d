/** How long a migration of a cluster takes, and what its guests tell of it. */
import { readSerial } from "../../test/support/qemu/guest.ts";
import { type Cluster, type Member, QUIET_SECONDS } from "./cluster.ts";
import { longestGap, ticks } from "./console.ts";
import { within } from "./process.ts";

/** How long each guest is listened to at the least once all have arrived. */
const AFTER_MS = 1000;
/** The first at the far site may have begun at the near one; the second has read every page there. */
const PASSES_AFTER = 2;

/** A stretch of time, in milliseconds of `performance.now()`. */
export interface Span {
  readonly begun: number;
  readonly ended: number;
}

/**
 * Does `move`, which is to migrate the whole cluster within so many seconds, and tells how long it took from the call until every
 * source had ended its migration and every guest ran at the far site.
 */
export async function timed({ members }: Cluster, seconds: number, move: () => Promise<void>): Promise<Span> {
  const began = members.map(({ source, destination }) => [source.qmp.events, destination.qmp.events] as const);
  const begun = performance.now();
  const arrival = async ({ source, destination }: Member, i: number) => {
    const isEnd = ({ status }: Record<string, unknown>) => status === "completed";
    await Promise.all([
      source.qmp.event("MIGRATION", isEnd, began[i]![0]),
      destination.qmp.event("RESUME", undefined, began[i]![1]),
    ]);
    return performance.now();
  };
  const arrivals = Promise.all(members.map(arrival));
  const [times] = await within(seconds, "the migration of the cluster", Promise.all([arrivals, move()]));
  return { begun, ended: Math.max(...times) };
}

/** What the guests themselves tell of a migration, each in milliseconds. */
export interface Gaps {
  /** The longest gap between two `SEQ` lines while the migration went on: what a client of the guest would see. */
  readonly downtime: number;
  /** From the last `SEQ` line at the near site to the first at the far one: no more than `downtime`. */
  readonly handOver: number;
  /** The longest one before it, which the machine is to blame for. */
  readonly quiet: number;
}

/** Waits until every guest has read all of its memory at the far site. Throws where a byte is wrong or a tick is missing. */
export async function inspect({ members }: Cluster, { begun, ended }: Span): Promise<Gaps[]> {
  const inspectOne = async ({ name, source, destination, near, far }: Member): Promise<Gaps> => {
    const done = (text: string) => {
      const { passes, wrong } = readSerial(text);
      return wrong.length > 0 || (passes >= PASSES_AFTER && (far.at(-1)?.at ?? 0) > ended + AFTER_MS);
    };
    await destination.until(done, `check of the memory of ${name} at the far site`);
    const { wrong, sequence } = readSerial(source.serial(), destination.serial());
    if (wrong.length > 0) throw new Error(`${name} is damaged: ${wrong.slice(0, 3).join("; ")}`);
    const lost = sequence.findIndex((number, i) => number !== i + 1);
    if (lost >= 0) throw new Error(`${name} went on with ${sequence[lost]} where ${lost + 1} was to come`);
    const all = ticks([...near, ...far]);
    const moved = ticks(near).length;
    return {
      handOver: all[moved]!.at - all[moved - 1]!.at,
      quiet: longestGap(all, begun - QUIET_SECONDS * 1000, begun),
      downtime: longestGap(all, begun, ended + AFTER_MS),
    };
  };
  return await Promise.all(members.map(inspectOne));
}
