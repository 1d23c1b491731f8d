import { type DestinationSite, EMPTY_SITE } from "../engine/site.ts";
import { ShrinkerError } from "../errors.ts";
import type { Against } from "../wire/control.ts";

/** A destination that holds nothing from before and keeps nothing. */
export async function nothingHere(against: Against | undefined): Promise<DestinationSite> {
  if (against) {
    const message = "The bundle leaves out what its destination holds: name that with --store DIR or --seed FILE";
    throw new ShrinkerError("input", message);
  }
  return EMPTY_SITE;
}
