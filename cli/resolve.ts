import { ShrinkerError } from "../core/errors.ts";
import { listJournals } from "../core/handover/journal.ts";
import { resolve as resolveMigration } from "../core/handover/resolve.ts";
import type { Action } from "./command.ts";
import { parseChoice } from "./options.ts";
import { needState } from "./settings.ts";

const ENDS = ["source", "destination"] as const;
const DONE = { runs: "runs here", paused: "stands still here", ended: "is ended here", gone: "was gone here" } as const;

/** Ends an interrupted migration by hand, on this host. */
export const resolve: Action = async ({ args, options, output }) => {
  const [name, ...others] = args;
  if (name === undefined || others.length > 0)
    throw new ShrinkerError("usage", "Which migration? Name one guest, as `shrinker list --migrations` shows it");
  const as = options.read("as", parseChoice(ENDS));
  if (!as) throw new ShrinkerError("usage", "At which end does the guest go on? Give --as source or --as destination");
  const state = needState(options);
  const entries = (await listJournals(state)).filter((entry) => entry.name === name || entry.id === name);
  if (entries.length === 0)
    throw new ShrinkerError(
      "input",
      `No migration of "${name}" is recorded in ${state}: see \`shrinker list --migrations\``,
    );
  if (entries.length > 1) {
    const ids = entries.map(({ id }) => id).join(", ");
    throw new ShrinkerError("usage", `Several migrations of "${name}" are recorded: give one by its number: ${ids}`);
  }
  const [entry] = entries;
  const done = await resolveMigration(state, entry!, as);
  output.result([`${entry!.name} ${DONE[done]}`]);
  output.event({ type: "resolved", name: entry!.name, role: entry!.role, as, done });
  return 0;
};
