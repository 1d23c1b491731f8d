import type { CommandSpec } from "../command.ts";
import { AUTHORIZED_PEERS, COMMON, IDENTITY, KNOWN_PEERS, PASSPHRASE } from "./shared-options.ts";

export const identity: CommandSpec = {
  name: "identity",
  args: "[KEY]",
  text: "Make and show this end's key, rotate it, and note the keys of others",
  options: [
    { name: "rotate", text: "Make a new key, which the old one vouches for during 90 days" },
    { name: "pin", value: "ADDRESS", text: "Expect the KEY that follows at this address" },
    { name: "authorize", value: "KEY", text: "Let who has this key connect here, by a --name" },
    { name: "name", value: "NAME", text: "What that peer is called here" },
    { name: "domains", value: "A,B", text: "Which domains it may use (default: all)" },
    {
      name: "services",
      value: "A,B",
      text: "Which services it may connect to; * stands for anything (default: all)",
    },
    { name: "vms", value: "A,B", text: "Which guests and files it may bring, such as web-* (default: all)" },
    { name: "max-sessions", value: "N", text: "Sessions at once (default: as the receiver's)" },
    {
      name: "memory",
      value: "SIZE",
      text: "Contents that a session may have remembered here (default: as the receiver's)",
    },
    { name: "rate", value: "RATE", text: "How fast it may send, such as 100Mbit (default: no limit)" },
    { name: "expires", value: "DATE", text: "When it may no more, such as 2027-01-01 (default: never)" },
    IDENTITY,
    PASSPHRASE,
    KNOWN_PEERS,
    AUTHORIZED_PEERS,
    ...COMMON,
  ],
  examples: [
    "shrinker identity",
    "shrinker identity --pin tcp://site-b:4747 KEY",
    "shrinker identity --authorize KEY --name site-a --vms 'web-*' --rate 100Mbit",
  ],
  load: async () => (await import("../identity.ts")).identity,
};
