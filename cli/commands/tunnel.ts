import type { CommandSpec } from "../command.ts";
import { BANDWIDTH, COMMON, CONNECTIONS, DIALS, DOMAIN, NO_PROGRESS, SPOOL } from "./shared-options.ts";

export const tunnel: CommandSpec = {
  name: "tunnel",
  args: "",
  text: "Carry connections to services of a receiver: what ssh -L does, for streams of machines",
  options: [
    { name: "to", value: "ADDRESS", text: "tcp://, quic:// or webtransport://HOST:PORT, unix:PATH or exec:COMMAND" },
    {
      name: "service",
      value: "NAME=ADDR",
      many: true,
      text: "Listen at ADDR for connections to NAME: unix:PATH or tcp:HOST:PORT, ,format=nbd for the mirror of a disk, ,format=bytes for anything else than QEMU's",
    },
    {
      name: "compress",
      value: "CODEC",
      text: "zstd, lz4, none, or auto: by what is slower, link or processor (default: auto)",
    },
    BANDWIDTH,
    CONNECTIONS,
    { name: "once", text: "End when no connection is left, once there was one" },
    DOMAIN,
    ...SPOOL,
    ...DIALS,
    NO_PROGRESS,
    ...COMMON,
  ],
  examples: [
    "shrinker receive --listen unix:/run/link --service web=unix:/run/web.in",
    "shrinker tunnel --to unix:/run/link --service web=unix:/run/web.out",
  ],
  load: async () => (await import("../tunnel.ts")).tunnel,
};
