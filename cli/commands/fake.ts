import type { CommandSpec } from "../command.ts";
import { COMMON } from "./shared-options.ts";

export const fake: CommandSpec = {
  name: "fake",
  args: "<NAME>",
  text: "Run a fake VM, with QMP and QEMU's migration stream, to test migrations without a hypervisor",
  options: [
    { name: "qmp", value: "PATH", text: "The unix socket at which QMP is served" },
    {
      name: "incoming",
      value: "URI",
      text: "Wait for a guest at unix:PATH or tcp:HOST:PORT; defer: until migrate-incoming",
    },
    { name: "paused", short: "S", text: "Do not run before cont" },
    { name: "check", text: "Verify all memory of a guest that has come in; exit code 6 where it is wrong" },
    { name: "memory", value: "SIZE", text: "Of the guest, such as 1G (default: 256M)" },
    { name: "dirty", value: "SIZE", text: "What the guest rewrites in a second (default: 1M)" },
    { name: "pattern", value: "PATTERN", text: "How: counter, text or random (default: counter)" },
    { name: "working-set", value: "SIZE", text: "What it rewrites over and over (default: half of private)" },
    { name: "private", value: "SIZE", text: "Memory that no guest of another seed has (default: an eighth)" },
    { name: "zero", value: "SHARE", text: "The part that is zeros (default: 0.5)" },
    { name: "base", value: "NAME", text: "The image whose pages fill the rest; guests share those of one image" },
    { name: "seed", value: "N", text: "Which guest it is (default: 1)" },
    { name: "disk", value: "SIZE", text: "Say that it has a disk, without contents" },
    { name: "rounds", value: "N", text: "Passes over memory after which a migration ends in any case" },
    { name: "fail", value: "KIND@POINT", many: true, text: "Fail on purpose, see docs/fake.md; may be repeated" },
    ...COMMON,
  ],
  examples: [
    "shrinker fake web --memory 256M --dirty 8M --qmp web.qmp",
    "shrinker fake web --memory 256M --qmp there.qmp --incoming defer --check --json",
    "shrinker fake 'web?memory=256M&fail=die@round:2' --qmp web.qmp",
  ],
  load: async () => (await import("../fake.ts")).fake,
};
