import type { CommandSpec } from "../command.ts";
import { COMMON, DOMAIN, STORE } from "./shared-options.ts";

export const prune: CommandSpec = {
  name: "prune",
  args: "",
  text: "Forget snapshots, and remove from a store what nothing needs",
  options: [
    STORE,
    { name: "forget", value: "NAME", many: true, text: "Forget a snapshot; may be repeated" },
    { name: "release", value: "HOLD", many: true, text: "End a hold before its time; may be repeated" },
    {
      name: "keep-received",
      value: "AGE",
      text: "Keep what receivers took in or used so long ago at most, such as 12h; 0 for none of it (default: 30d)",
    },
    { name: "repack", text: "Write all packs anew, as small as they get" },
    { name: "dry-run", text: "Say what would go, and remove nothing" },
    DOMAIN,
    ...COMMON,
  ],
  examples: [
    "shrinker prune --store /srv/store --forget monday --dry-run",
    "shrinker prune --store /srv/store --keep-received 7d",
  ],
  load: async () => (await import("../prune.ts")).prune,
};
