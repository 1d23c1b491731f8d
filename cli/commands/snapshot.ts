import type { CommandSpec } from "../command.ts";
import { COMMON, DOMAIN, FORMAT, NO_PROGRESS, STORE } from "./shared-options.ts";

export const snapshot: CommandSpec = {
  name: "snapshot",
  args: "<MACHINE...>",
  text: "Keep machines in a store, under a name; each distinct content once",
  options: [
    STORE,
    { name: "name", value: "NAME", text: "What the snapshot is called" },
    FORMAT,
    { name: "force", text: "Replace a snapshot of the same name" },
    { name: "sha256", text: "Note each file's SHA-256 as well: its bytes are proved without it" },
    DOMAIN,
    NO_PROGRESS,
    ...COMMON,
  ],
  examples: ["shrinker snapshot web.qevm disk=nbd:web.qcow2 --store /srv/store --name monday"],
  load: async () => (await import("../snapshot.ts")).snapshot,
};
