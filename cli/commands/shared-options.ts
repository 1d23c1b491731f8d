import type { OptionSpec } from "../options.ts";

/** Of every command. */
export const COMMON: readonly OptionSpec[] = [
  { name: "json", text: "Print events and a summary, as one JSON object a line" },
  { name: "quiet", text: "Print nothing but errors" },
];
export const BANDWIDTH: OptionSpec = {
  name: "bandwidth",
  value: "RATE",
  text: "Send no faster, such as 100Mbit or 12MB",
};
export const NO_PROGRESS: OptionSpec = { name: "no-progress", text: "Show no progress" };
/** Of sessions. */
export const SPOOL: readonly OptionSpec[] = [
  { name: "spool", value: "DIR", text: "Folder on a disk for contents that may be referred to again" },
  { name: "spool-limit", value: "SIZE", text: "How much of them is kept, such as 8G" },
];
/** Of what compares snapshots. */
export const SNAPSHOT_SPOOL: OptionSpec = {
  name: "spool",
  value: "DIR",
  text: "Folder on a disk for a snapshot's contents (default: /var/tmp)",
};
export const REPLACE_FILES: OptionSpec = { name: "force", text: "Replace files that exist" };
export const CONNECTIONS: OptionSpec = {
  name: "connections",
  value: "N",
  text: "Connections that carry the session, for links that are fast and long: 1 to 16 (default: 1)",
};
export const DOMAIN: OptionSpec = {
  name: "domain",
  value: "NAME",
  text: 'Whose contents may meet; alike at both ends (default: "default")',
};
export const FORMAT: OptionSpec = {
  name: "format",
  value: "FORMAT",
  text: "raw, qemu, elf, nbd or bytes, for all machines (default: by their first bytes)",
};
export const STORE: OptionSpec = {
  name: "store",
  value: "DIR",
  text: "The store: a folder; made by what first writes to it",
};
export const STATE: readonly OptionSpec[] = [
  { name: "state", value: "DIR", text: "Folder for what is remembered (default: ~/.local/state/shrinker)" },
  { name: "no-state", text: "Remember nothing" },
];
export const IDENTITY: OptionSpec = {
  name: "identity",
  value: "FILE",
  text: "This end's private key (default: ~/.config/shrinker/identity)",
};
export const KNOWN_PEERS: OptionSpec = {
  name: "known-peers",
  value: "FILE",
  text: "Whose keys to expect where (default: ~/.config/shrinker/known-peers)",
};
export const AUTHORIZED_PEERS: OptionSpec = {
  name: "authorized-peers",
  value: "FILE",
  text: "Who may connect here, and to do what (default: ~/.config/shrinker/authorized-peers)",
};
export const PASSPHRASE: OptionSpec = {
  name: "passphrase-file",
  value: "FILE",
  text: "Holds the passphrase of the private key (default: SHRINKER_PASSPHRASE)",
};
const INSECURE: OptionSpec = {
  name: "insecure",
  text: "Prove and ask for no identities: on a network that you trust",
};
/** Of who dials. */
export const DIALS: readonly OptionSpec[] = [
  { name: "peer", value: "KEY", text: "The key to expect there (default: as known-peers says)" },
  KNOWN_PEERS,
  IDENTITY,
  PASSPHRASE,
  INSECURE,
];
/** Of who listens. */
export const LISTENS: readonly OptionSpec[] = [AUTHORIZED_PEERS, IDENTITY, PASSPHRASE, INSECURE];
/** Of what sends or receives machines. */
export const SESSION: readonly OptionSpec[] = [
  DOMAIN,
  ...SPOOL,
  { name: "sha256", text: "Compute each file's SHA-256 as well: its bytes are proved without it" },
  NO_PROGRESS,
  ...COMMON,
];
export const AGE_IDENTITY: OptionSpec = {
  name: "age-identity",
  value: "FILE",
  text: "Secret keys for encrypted bundles, as age-keygen writes them",
};
