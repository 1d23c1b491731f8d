import type { CommandSpec } from "../command.ts";
import type { OptionSpec } from "../options.ts";
import { BANDWIDTH, CONNECTIONS, DIALS, FORMAT, SESSION, STATE } from "./shared-options.ts";

/** Of guests that run. */
const LIVE: readonly OptionSpec[] = [
  { name: "downtime-limit", value: "TIME", text: "How long a guest may stand still, such as 300ms (default: QEMU's)" },
  { name: "timeout", value: "TIME", text: "How long a guest may be copied, such as 10min (default: no limit)" },
  {
    name: "on-timeout",
    value: "WHAT",
    text: "What happens then: cancel, stop the guest until it is copied, or postcopy: let it go on at the destination before it is (default: cancel)",
  },
  { name: "recover", text: "Go on with a post-copy that was interrupted, and begin nothing else" },
  { name: "auto-converge", text: "Slow a guest down that writes faster than it can be copied" },
  {
    name: "switchover-timeout",
    value: "TIME",
    text: "How long a guest may wait at the end to be loaded (default: 5s)",
  },
  { name: "keep-source", text: "Leave the source's QEMU, paused, once the guest has gone" },
  { name: "paused", text: "Leave the guest paused at the destination" },
  { name: "shared-storage", text: "Both ends have the same disks, so these need not move" },
];

export const migrate: CommandSpec = {
  name: "migrate",
  args: "<MACHINE...>",
  text: "Send machines: guests that run (qmp:SOCKET, fake:NAME), disk images, saved streams, memory files, nbd:IMAGE, or - for stdin",
  options: [
    {
      name: "to",
      value: "ADDRESS",
      text: "tcp://, quic:// or webtransport://HOST:PORT, unix:PATH, exec:COMMAND or file:BUNDLE",
    },
    {
      name: "compress",
      value: "CODEC",
      text: "zstd, lz4, none, or auto: by what is slower, link or processor (default: zstd)",
    },
    BANDWIDTH,
    CONNECTIONS,
    { name: "parallel", value: "N", text: "Machines that are sent at once (default: 1; guests that run: 2)" },
    ...LIVE,
    FORMAT,
    { name: "against", value: "FILE", text: "Leave out of a bundle what an index says the destination holds" },
    {
      name: "encrypt-to",
      value: "RECIPIENT",
      many: true,
      text: "Encrypt a bundle to a public key of age's, age1..., or to those in @FILE; may be repeated",
    },
    { name: "no-sign", text: "Leave a bundle unsigned, although there is a key to sign it with" },
    { name: "force", text: "Replace a bundle that exists" },
    { name: "dry-run", text: "Read everything, say what would be sent, and send nothing" },
    ...STATE,
    ...DIALS,
    ...SESSION,
  ],
  examples: [
    "shrinker identity --pin tcp://site-b:4747 KEY   # once, with the key that `shrinker identity` shows at site B",
    "shrinker migrate a.qevm b.qevm disk.raw --to tcp://site-b:4747",
    "shrinker migrate qmp:/run/web.qmp qmp:/run/db.qmp --to tcp://site-b:4747 --bandwidth 80Mbit",
    "shrinker migrate web=/var/lib/vm/1.img --to 'exec:ssh HOST shrinker receive --stdio --output /srv/vm'",
    "shrinker migrate *.img --to file:/mnt/usb/site.bundle",
  ],
  dataOnStdout: (options) => options.text("to") === "file:-",
  load: async () => (await import("../migrate.ts")).migrate,
};
