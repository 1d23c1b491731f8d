import type { DestinationSite } from "../engine/site.ts";
import { ProtocolError, ShrinkerError } from "../errors.ts";
import type { Against } from "../wire/control.ts";

/** A destination that holds nothing from before and keeps nothing. */
export async function nothingHere(against: Against | undefined): Promise<DestinationSite> {
  if (against) {
    const message = "The bundle leaves out what its destination holds: name that with --store DIR or --seed FILE";
    throw new ShrinkerError("input", message);
  }
  return emptySite;
}

const emptySite: DestinationSite = {
  info: undefined,
  brokers: [],
  begin: async () => [],
  past(first) {
    throw new ProtocolError(`The peer refers to content ${first} of earlier sessions, of which none is known here`);
  },
  summary: () => Promise.reject(new ShrinkerError("bug", "There is nothing to summarise")),
  async close() {},
};
