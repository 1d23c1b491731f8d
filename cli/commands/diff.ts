import type { CommandSpec } from "../command.ts";
import { COMMON, DOMAIN, FORMAT, SNAPSHOT_SPOOL, STORE } from "./shared-options.ts";

export const diff: CommandSpec = {
  name: "diff",
  args: "<A> <B>",
  text: "Say what moving a machine A to a site that holds B would cost",
  options: [
    STORE,
    { name: "bandwidth", value: "RATE", text: "Say how long that takes, such as at 100Mbit or 12MB" },
    FORMAT,
    SNAPSHOT_SPOOL,
    DOMAIN,
    ...COMMON,
  ],
  examples: [
    "shrinker diff web.raw base.raw --bandwidth 100Mbit",
    "shrinker diff web.qevm store:/srv/store",
    "shrinker diff snapshot:tuesday snapshot:monday --store /srv/store",
  ],
  load: async () => (await import("../diff.ts")).diff,
};
