import type { CommandSpec } from "../command.ts";
import { COMMON, DOMAIN, FORMAT, SNAPSHOT_SPOOL, STORE } from "./shared-options.ts";

/** The command that is called so. */
export const index: CommandSpec = {
  name: "index",
  args: "[SOURCE...]",
  text: "Say what machines, snapshots and stores share; with -o write down what they hold, for bundles",
  options: [
    STORE,
    { name: "out", short: "o", value: "FILE", text: "Write an index file, for migrate --against" },
    { name: "hold", value: "AGE", text: "Keep what the index lists of the store from prune, such as 30d" },
    { name: "force", text: "Replace an index that exists" },
    FORMAT,
    SNAPSHOT_SPOOL,
    DOMAIN,
    ...COMMON,
  ],
  examples: [
    "shrinker index web.qevm db.qevm disk=nbd:disk.qcow2",
    "shrinker index --store /srv/store -o site.index --hold 30d",
    "shrinker index --store /srv/store snapshot:monday /srv/images/base.raw -o site.index",
  ],
  load: async () => (await import("../index-contents.ts")).index,
};
