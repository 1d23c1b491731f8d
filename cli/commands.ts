import type { CommandSpec, OptionSpec } from "./command.ts";

const COMMON: readonly OptionSpec[] = [
  { name: "json", text: "Print events and a summary, as one JSON object a line" },
  { name: "quiet", text: "Print nothing but errors" },
];
const CONNECTIONS: OptionSpec = {
  name: "connections",
  value: "N",
  text: "Connections that carry the session, for links that are fast and long: 1 to 16 (default: 1)",
};
const DOMAIN: OptionSpec = {
  name: "domain",
  value: "NAME",
  text: 'Whose contents may meet; alike at both ends (default: "default")',
};
const FORMAT: OptionSpec = {
  name: "format",
  value: "FORMAT",
  text: "raw, qemu, elf or bytes, for all machines (default: by their first bytes)",
};
const STORE: OptionSpec = { name: "store", value: "DIR", text: "The store: a folder; made by what first writes to it" };
const STATE: readonly OptionSpec[] = [
  { name: "state", value: "DIR", text: "Folder for what is remembered (default: ~/.local/state/shrinker)" },
  { name: "no-state", text: "Remember nothing" },
];
const IDENTITY: OptionSpec = {
  name: "identity",
  value: "FILE",
  text: "This end's private key (default: ~/.config/shrinker/identity)",
};
const KNOWN_PEERS: OptionSpec = {
  name: "known-peers",
  value: "FILE",
  text: "Whose keys to expect where (default: ~/.config/shrinker/known-peers)",
};
const AUTHORIZED_PEERS: OptionSpec = {
  name: "authorized-peers",
  value: "FILE",
  text: "Who may connect here, and to do what (default: ~/.config/shrinker/authorized-peers)",
};
const PASSPHRASE: OptionSpec = {
  name: "passphrase-file",
  value: "FILE",
  text: "Holds the passphrase of the private key (default: SHRINKER_PASSPHRASE)",
};
const INSECURE: OptionSpec = { name: "insecure", text: "Prove and ask for no identities: on a network that you trust" };
/** Of who dials. */
const DIALS: readonly OptionSpec[] = [
  { name: "peer", value: "KEY", text: "The key to expect there (default: as known-peers says)" },
  KNOWN_PEERS,
  IDENTITY,
  PASSPHRASE,
  INSECURE,
];
/** Of who listens. */
const LISTENS: readonly OptionSpec[] = [AUTHORIZED_PEERS, IDENTITY, PASSPHRASE, INSECURE];
const SESSION: readonly OptionSpec[] = [
  DOMAIN,
  { name: "spool", value: "DIR", text: "Folder on a disk for contents that may be referred to again" },
  { name: "spool-limit", value: "SIZE", text: "How much of them is kept, such as 8G" },
  { name: "sha256", text: "Compute each file's SHA-256 as well: its bytes are proved without it" },
  { name: "no-progress", text: "Show no progress" },
  ...COMMON,
];
const AGE_IDENTITY: OptionSpec = {
  name: "age-identity",
  value: "FILE",
  text: "Secret keys for encrypted bundles, as age-keygen writes them",
};

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

/** Every command. A new one is a file and an entry here. */
export const commands: readonly CommandSpec[] = [
  {
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
      { name: "bandwidth", value: "RATE", text: "Send no faster, such as 100Mbit or 12MB" },
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
      "shrinker migrate a.qevm b.qevm disk.raw --to tcp://127.0.0.1:4747",
      "shrinker migrate web=/var/lib/vm/1.img --to 'exec:ssh HOST shrinker receive --stdio --output /srv/vm'",
      "shrinker migrate *.img --to file:/mnt/usb/site.bundle",
    ],
    dataOnStdout: (options) => options.text("to") === "file:-",
    load: async () => (await import("./migrate.ts")).migrate,
  },
  {
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
      { name: "force", text: "Replace files that exist" },
      { name: "all-or-nothing", text: "Keep a session's machines only if all of them are right" },
      { name: "dry-run", text: "Verify a bundle completely, and write nothing" },
      ...STATE,
      ...LISTENS,
      ...SESSION,
    ],
    examples: [
      "shrinker receive --listen tcp://127.0.0.1:4747 --output /srv/vm",
      "shrinker receive file:/mnt/usb/site.bundle --output /srv/vm",
      "shrinker receive file:/mnt/usb/site.bundle --dry-run",
    ],
    dataOnStdout: (options) => options.given("stdio") || options.text("output") === "-",
    load: async () => (await import("./receive.ts")).receive,
  },
  {
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
      { name: "bandwidth", value: "RATE", text: "Send no faster, such as 100Mbit or 12MB" },
      CONNECTIONS,
      { name: "once", text: "End when no connection is left, once there was one" },
      DOMAIN,
      { name: "spool", value: "DIR", text: "Folder on a disk for contents that may be referred to again" },
      { name: "spool-limit", value: "SIZE", text: "How much of them is kept, such as 8G" },
      ...DIALS,
      { name: "no-progress", text: "Show no progress" },
      ...COMMON,
    ],
    examples: [
      "shrinker receive --listen tcp://127.0.0.1:4747 --service web=unix:/run/web.in",
      "shrinker tunnel --to tcp://127.0.0.1:4747 --service web=unix:/run/web.out",
    ],
    load: async () => (await import("./tunnel.ts")).tunnel,
  },
  {
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
    load: async () => (await import("./identity.ts")).identity,
  },
  {
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
      { name: "no-progress", text: "Show no progress" },
      ...COMMON,
    ],
    examples: ["shrinker snapshot web.qevm disk=nbd:web.qcow2 --store /srv/store --name monday"],
    load: async () => (await import("./snapshot.ts")).snapshot,
  },
  {
    name: "restore",
    args: "<NAME>",
    text: "Write the machines of a snapshot to a folder",
    options: [
      STORE,
      { name: "output", value: "DIR", text: "Where they are put" },
      { name: "force", text: "Replace files that exist" },
      { name: "all-or-nothing", text: "Keep the machines only if all of them are right" },
      { name: "dry-run", text: "Verify the snapshot completely, and write nothing" },
      { name: "sha256", text: "Compute each file's SHA-256 anew, though its bytes are proved without it" },
      {
        name: "spool",
        value: "DIR",
        text: "Folder on a disk for contents that come again (default: the output folder)",
      },
      DOMAIN,
      { name: "no-progress", text: "Show no progress" },
      ...COMMON,
    ],
    examples: ["shrinker restore monday --store /srv/store --output /srv/vm"],
    load: async () => (await import("./restore.ts")).restore,
  },
  {
    name: "index",
    args: "[SOURCE...]",
    text: "Say what machines, snapshots and stores share; with -o write down what they hold, for bundles",
    options: [
      STORE,
      { name: "out", short: "o", value: "FILE", text: "Write an index file, for migrate --against" },
      { name: "hold", value: "AGE", text: "Keep what the index lists of the store from prune, such as 30d" },
      { name: "force", text: "Replace an index that exists" },
      FORMAT,
      { name: "spool", value: "DIR", text: "Folder on a disk for a snapshot's contents (default: /var/tmp)" },
      DOMAIN,
      ...COMMON,
    ],
    examples: [
      "shrinker index web.qevm db.qevm disk=nbd:disk.qcow2",
      "shrinker index --store /srv/store -o site.index --hold 30d",
      "shrinker index --store /srv/store snapshot:monday /srv/images/base.raw -o site.index",
    ],
    load: async () => (await import("./index-contents.ts")).index,
  },
  {
    name: "diff",
    args: "<A> <B>",
    text: "Say what moving a machine A to a site that holds B would cost",
    options: [
      STORE,
      { name: "bandwidth", value: "RATE", text: "Say how long that takes, such as at 100Mbit or 12MB" },
      FORMAT,
      { name: "spool", value: "DIR", text: "Folder on a disk for a snapshot's contents (default: /var/tmp)" },
      DOMAIN,
      ...COMMON,
    ],
    examples: [
      "shrinker diff web.raw base.raw --bandwidth 100Mbit",
      "shrinker diff web.qevm store:/srv/store",
      "shrinker diff snapshot:tuesday snapshot:monday --store /srv/store",
    ],
    load: async () => (await import("./diff.ts")).diff,
  },
  {
    name: "list",
    args: "",
    text: "Say what a store holds: snapshots, holds and domains; or which migrations are under way or were interrupted",
    options: [
      STORE,
      { name: "domain", value: "NAME", text: "Only what this domain has (default: all)" },
      { name: "migrations", text: "List migrations of guests instead" },
      ...STATE,
      ...COMMON,
    ],
    examples: ["shrinker list --store /srv/store", "shrinker list --migrations"],
    load: async () => (await import("./list.ts")).list,
  },
  {
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
    load: async () => (await import("./verify.ts")).verify,
  },
  {
    name: "prune",
    args: "",
    text: "Forget snapshots, and remove from a store what nothing needs",
    options: [
      STORE,
      { name: "forget", value: "NAME", many: true, text: "Forget a snapshot; may be repeated" },
      { name: "release", value: "HOLD", many: true, text: "End a hold before its time; may be repeated" },
      {
        name: "keep-received",
        value: "AGE",
        text: "Keep what receivers took in or used so long ago at most, such as 12h; 0 for none of it (default: 30d)",
      },
      { name: "repack", text: "Write all packs anew, as small as they get" },
      { name: "dry-run", text: "Say what would go, and remove nothing" },
      DOMAIN,
      ...COMMON,
    ],
    examples: [
      "shrinker prune --store /srv/store --forget monday --dry-run",
      "shrinker prune --store /srv/store --keep-received 7d",
    ],
    load: async () => (await import("./prune.ts")).prune,
  },
  {
    name: "resolve",
    args: "<NAME>",
    text: "End an interrupted migration of a guest by hand, on this host: say at which end it goes on",
    options: [
      {
        name: "as",
        value: "END",
        text: "Where the guest goes on: source or destination; do the same on the other host",
      },
      ...STATE,
      ...COMMON,
    ],
    examples: ["shrinker list --migrations", "shrinker resolve web --as source"],
    load: async () => (await import("./resolve.ts")).resolve,
  },
  {
    name: "inspect",
    args: "<FILE...>",
    text: "Say what bundles, captured streams and images hold, and verify bundles",
    options: [
      { name: "format", value: "FORMAT", text: "raw, qemu, elf or bytes (default: by the first bytes)" },
      { name: "spool", value: "DIR", text: "Folder on a disk for a bundle's contents (default: /var/tmp)" },
      AGE_IDENTITY,
      ...COMMON,
    ],
    examples: ["shrinker inspect site.bundle", "shrinker inspect --json guest.qevm disk.raw"],
    load: async () => (await import("./inspect.ts")).inspect,
  },
  {
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
    load: async () => (await import("./fake.ts")).fake,
  },
];
