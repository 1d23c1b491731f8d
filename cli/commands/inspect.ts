import type { CommandSpec } from "../command.ts";
import { AGE_IDENTITY, COMMON } from "./shared-options.ts";

export const inspect: CommandSpec = {
  name: "inspect",
  args: "<FILE...>",
  text: "Say what bundles, captured streams and images hold, and verify bundles",
  options: [
    { name: "format", value: "FORMAT", text: "raw, qemu, elf, nbd or bytes (default: by the first bytes)" },
    { name: "spool", value: "DIR", text: "Folder on a disk for a bundle's contents (default: /var/tmp)" },
    AGE_IDENTITY,
    ...COMMON,
  ],
  examples: ["shrinker inspect site.bundle", "shrinker inspect --json guest.qevm disk.raw"],
  load: async () => (await import("../inspect.ts")).inspect,
};
