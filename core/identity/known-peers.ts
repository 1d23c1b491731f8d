import { ShrinkerError } from "../errors.ts";
import type { Address } from "../transport/transport.ts";
import { parseKey } from "./key.ts";
import { peerLines } from "./peer-lines.ts";

/** Whose key to expect where: `HOST:PORT` to the key's word. */
export type KnownPeers = ReadonlyMap<string, string>;

/** The host and port of an address, as known peers are named by them: `host:4747`, `[2001:db8::1]:4747`. */
export function authorityOf({ rest, text }: Address): string {
  const authority = rest.split(/[/?#]/, 1)[0]!.toLowerCase();
  if (isAuthority(authority)) return authority;
  throw new ShrinkerError("usage", `Cannot find the host and port of "${text}"`);
}

function isAuthority(text: string): boolean {
  return text.length <= 300 && /^(\[[0-9a-f:.%\w]+\]|[^\s:[\]/@#]+):\d{1,5}$/.test(text);
}

/** Reads known peers: lines `HOST:PORT KEY`. Throws `input` for a line that is none, and for two keys of one host. */
export function parseKnownPeers(text: string, path: string): KnownPeers {
  const peers = new Map<string, string>();
  for (const { words, wrong } of peerLines(text, path)) {
    const [host = "", key = "", ...others] = words;
    const authority = host.toLowerCase();
    if (!isAuthority(authority) || others.length > 0) throw wrong("expected HOST:PORT KEY");
    check(key, wrong);
    if (peers.has(authority)) throw wrong(`${authority} has a key already`);
    peers.set(authority, key);
  }
  return peers;
}

/** @returns the text of a file in which this host has this key, and no other; what else is in it stays as it is */
export function withKnownPeer(text: string, authority: string, key: string): string {
  const others = text.split("\n").filter((line) => line.trim().split(/\s+/)[0]?.toLowerCase() !== authority);
  while (others.at(-1) === "") others.pop();
  return [...others, `${authority} ${key}`, ""].join("\n");
}

/** Throws by `wrong` for what is no key. */
export function check(key: string, wrong: (why: string) => Error): void {
  try {
    parseKey(key);
  } catch (error) {
    throw wrong((error as Error).message);
  }
}
