import type { CommandSpec } from "../command.ts";
import { COMMON, STATE } from "./shared-options.ts";

export const resolve: CommandSpec = {
  name: "resolve",
  args: "<NAME>",
  text: "End an interrupted migration of a guest by hand, on this host: say at which end it goes on",
  options: [
    {
      name: "as",
      value: "END",
      text: "Where the guest goes on: source or destination; do the same on the other host",
    },
    ...STATE,
    ...COMMON,
  ],
  examples: ["shrinker list --migrations", "shrinker resolve web --as source"],
  load: async () => (await import("../resolve.ts")).resolve,
};
