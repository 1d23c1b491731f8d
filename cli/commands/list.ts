import type { CommandSpec } from "../command.ts";
import { COMMON, STATE, STORE } from "./shared-options.ts";

export const list: CommandSpec = {
  name: "list",
  args: "",
  text: "Say what a store holds: snapshots, holds and domains; or which migrations are under way or were interrupted",
  options: [
    STORE,
    { name: "domain", value: "NAME", text: "Only what this domain has (default: all)" },
    { name: "migrations", text: "List migrations of guests instead" },
    ...STATE,
    ...COMMON,
  ],
  examples: ["shrinker list --store /srv/store", "shrinker list --migrations"],
  load: async () => (await import("../list.ts")).list,
};
