import type { CommandSpec } from "../command.ts";
import { AGE_IDENTITY, LISTENS, REPLACE_FILES, SESSION, STATE } from "./shared-options.ts";

export const receive: CommandSpec = {
  name: "receive",
  args: "[file:BUNDLE]",
  text: "Receive machines: from a bundle, or as a daemon",
  options: [
    { name: "output", value: "DIR", text: "Where they are put; - is stdout, for one" },
    {
      name: "listen",
      value: "ADDRESS",
      text: "tcp://, quic:// or webtransport://HOST:PORT (0: any port), or unix:PATH",
    },
    {
      name: "service",
      value: "NAME=ADDR",
      many: true,
      text: "Where connections for NAME go: unix:PATH or tcp:HOST:PORT",
    },
    {
      name: "vm",
      value: "NAME=MACHINE",
      many: true,
      text: "A place for a guest that runs: qmp:SOCKET of a QEMU that waits, launch:COMMAND, which starts one, or fake:",
    },
    { name: "store", value: "DIR", text: "Keep contents for later sessions, and use those of earlier ones" },
    { name: "seed", value: "FILE", many: true, text: "A file here whose contents may be used; may be repeated" },
    {
      name: "trust",
      value: "KEY",
      many: true,
      text: "Receive only bundles that this public key, p256:..., has signed; may be repeated",
    },
    AGE_IDENTITY,
    { name: "stdio", text: "The other end of exec:, on stdin and stdout" },
    { name: "once", text: "End after one session" },
    { name: "max-sessions", value: "N", text: "Sessions at once; more are refused (default: 8)" },
    REPLACE_FILES,
    { name: "all-or-nothing", text: "Keep a session's machines only if all of them are right" },
    { name: "dry-run", text: "Verify a bundle completely, and write nothing" },
    ...STATE,
    ...LISTENS,
    ...SESSION,
  ],
  examples: [
    "shrinker identity --authorize KEY --name site-a   # once, with the key that `shrinker identity` shows at site A",
    "shrinker receive --listen tcp://0.0.0.0:4747 --output /srv/vm",
    "shrinker receive file:/mnt/usb/site.bundle --output /srv/vm",
    "shrinker receive file:/mnt/usb/site.bundle --dry-run",
  ],
  dataOnStdout: (options) => options.given("stdio") || options.text("output") === "-",
  load: async () => (await import("../receive.ts")).receive,
};
