import type { CommandSpec } from "../command.ts";
import { COMMON, DOMAIN, NO_PROGRESS, REPLACE_FILES, STORE } from "./shared-options.ts";

export const restore: CommandSpec = {
  name: "restore",
  args: "<NAME>",
  text: "Write the machines of a snapshot to a folder",
  options: [
    STORE,
    { name: "output", value: "DIR", text: "Where they are put" },
    REPLACE_FILES,
    { name: "all-or-nothing", text: "Keep the machines only if all of them are right" },
    { name: "dry-run", text: "Verify the snapshot completely, and write nothing" },
    { name: "sha256", text: "Compute each file's SHA-256 anew, though its bytes are proved without it" },
    {
      name: "spool",
      value: "DIR",
      text: "Folder on a disk for contents that come again (default: the output folder)",
    },
    DOMAIN,
    NO_PROGRESS,
    ...COMMON,
  ],
  examples: ["shrinker restore monday --store /srv/store --output /srv/vm"],
  load: async () => (await import("../restore.ts")).restore,
};
