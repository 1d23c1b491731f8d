import type { CommandSpec } from "../command.ts";
import { COMMON, DOMAIN, STORE } from "./shared-options.ts";

export const verify: CommandSpec = {
  name: "verify",
  args: "",
  text: "Check a store, and say which snapshots are harmed by what is damaged",
  options: [
    STORE,
    { name: "read-data", text: "Decompress every content, and compare it with its digest" },
    DOMAIN,
    ...COMMON,
  ],
  examples: ["shrinker verify --store /srv/store --read-data"],
  load: async () => (await import("../verify.ts")).verify,
};
