import type { CommandSpec, OptionSpec } from "./command.ts";

const COMMON: readonly OptionSpec[] = [
  { name: "json", text: "Print events and a summary, as one JSON object a line" },
  { name: "quiet", text: "Print nothing but errors" },
];
const DOMAIN: OptionSpec = {
  name: "domain",
  value: "NAME",
  text: 'Whose contents may meet; alike at both ends (default: "default")',
};
const STORE: OptionSpec = { name: "store", value: "DIR", text: "The store: a folder; made by what first writes to it" };
const STATE: readonly OptionSpec[] = [
  { name: "state", value: "DIR", text: "Folder for what is remembered (default: ~/.local/state/shrinker)" },
  { name: "no-state", text: "Remember nothing" },
];
const SESSION: readonly OptionSpec[] = [
  DOMAIN,
  { name: "spool", value: "DIR", text: "Folder on a disk for contents that may be referred to again" },
  { name: "spool-limit", value: "SIZE", text: "How much of them is kept, such as 8G" },
  { name: "no-sha256", text: "Leave out the SHA-256 of whole files: the bytes are proved without it" },
  { name: "insecure", text: "Allow links beyond this machine, which are not authenticated yet" },
  { name: "no-progress", text: "Show no progress" },
  ...COMMON,
];

/** Every command. A new one is a file and an entry here. */
export const commands: readonly CommandSpec[] = [
  {
    name: "migrate",
    args: "<MACHINE...>",
    text: "Send machines: disk images, saved QEMU streams, memory files, nbd:IMAGE for a disk by its content, or - for stdin",
    options: [
      { name: "to", value: "ADDRESS", text: "tcp://HOST:PORT, unix:PATH, exec:COMMAND or file:BUNDLE" },
      {
        name: "compress",
        value: "CODEC",
        text: "zstd, lz4, none, or auto: by what is slower, link or processor (default: zstd)",
      },
      { name: "bandwidth", value: "RATE", text: "Send no faster, such as 100Mbit or 12MB" },
      { name: "parallel", value: "N", text: "Machines that are sent at once (default: 1)" },
      {
        name: "format",
        value: "FORMAT",
        text: "raw, qemu, elf or bytes, for all machines (default: by their first bytes)",
      },
      { name: "against", value: "FILE", text: "Leave out of a bundle what an index says the destination holds" },
      { name: "force", text: "Replace a bundle that exists" },
      { name: "dry-run", text: "Read everything, say what would be sent, and send nothing" },
      ...STATE,
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
      { name: "listen", value: "ADDRESS", text: "tcp://HOST:PORT (0: any port) or unix:PATH" },
      { name: "store", value: "DIR", text: "Keep contents for later sessions, and use those of earlier ones" },
      { name: "seed", value: "FILE", many: true, text: "A file here whose contents may be used; may be repeated" },
      { name: "stdio", text: "The other end of exec:, on stdin and stdout" },
      { name: "once", text: "End after one session" },
      { name: "max-sessions", value: "N", text: "Sessions at once; more are refused (default: 8)" },
      { name: "force", text: "Replace files that exist" },
      { name: "all-or-nothing", text: "Keep a session's machines only if all of them are right" },
      { name: "dry-run", text: "Verify a bundle completely, and write nothing" },
      ...STATE,
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
    name: "snapshot",
    args: "<MACHINE...>",
    text: "Keep machines in a store, under a name; each distinct content once",
    options: [
      STORE,
      { name: "name", value: "NAME", text: "What the snapshot is called" },
      {
        name: "format",
        value: "FORMAT",
        text: "raw, qemu, elf or bytes, for all machines (default: by their first bytes)",
      },
      { name: "force", text: "Replace a snapshot of the same name" },
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
    name: "inspect",
    args: "<FILE...>",
    text: "Say what bundles, captured streams and images hold, and verify bundles",
    options: [
      { name: "format", value: "FORMAT", text: "raw, qemu, elf or bytes (default: by the first bytes)" },
      { name: "spool", value: "DIR", text: "Folder on a disk for a bundle's contents (default: /var/tmp)" },
      ...COMMON,
    ],
    examples: ["shrinker inspect site.bundle", "shrinker inspect --json guest.qevm disk.raw"],
    load: async () => (await import("./inspect.ts")).inspect,
  },
];
