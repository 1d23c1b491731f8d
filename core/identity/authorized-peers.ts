import type { Permissions } from "../transport/transport.ts";
import { parseRate, parseSize } from "../units.ts";
import { check } from "./known-peers.ts";
import { peerLines } from "./peer-lines.ts";

/** A peer that may dial, by its line. */
export interface AuthorizedPeer {
  readonly key: string;
  readonly name: string;
  readonly permissions: Permissions;
  /** From then on it is refused. */
  readonly expires?: Date;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const DATE = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z)?$/;
const MAX_LIST = 256;
const MAX_SESSIONS = 1024;
const EXPECTED =
  "expected KEY name=NAME, and of domains=, services=, vms=, max-sessions=, memory=, rate= and expires= what is to be restricted";

/**
 * Reads who may dial: lines `KEY name=site-a [domains=a,b] [services=a,b] [vms=web-*,db] [max-sessions=4] [memory=2G]
 * [rate=100Mbit] [expires=2027-01-01]`. Throws `input` for a line that is none, and for a key that is there twice: what is
 * misspelt must not permit more than was meant.
 */
export function parseAuthorizedPeers(text: string, path: string): ReadonlyMap<string, AuthorizedPeer> {
  const peers = new Map<string, AuthorizedPeer>();
  for (const { words, wrong } of peerLines(text, path)) {
    const [key = "", ...rest] = words;
    check(key, wrong);
    if (peers.has(key)) throw wrong("that key has a line already");
    const said = new Map<string, string>();
    for (const word of rest) {
      const [name = "", value = ""] = splitOnce(word);
      if (value === "" || said.has(name)) throw wrong(`cannot use "${word}": ${EXPECTED}`);
      said.set(name, value);
    }
    try {
      peers.set(key, readPeer(key, said));
    } catch (error) {
      throw wrong((error as Error).message);
    }
  }
  return peers;
}

/** The line of a peer, as `parseAuthorizedPeers` reads it. */
export function formatAuthorizedPeer(key: string, options: readonly (readonly [string, string])[]): string {
  return [key, ...options.map(([name, value]) => `${name}=${value}`)].join(" ");
}

function readPeer(key: string, said: Map<string, string>): AuthorizedPeer {
  const take = <T>(name: string, parse: (text: string) => T): T | undefined => {
    const text = said.get(name);
    said.delete(name);
    return text === undefined ? undefined : parse(text);
  };
  const name = take("name", parseName);
  if (name === undefined) throw new Error("it has no name=");
  const permissions: Permissions = {
    domains: take("domains", parseList),
    services: take("services", parseList),
    vms: take("vms", parseList),
    maxSessions: take("max-sessions", parseSessions),
    memory: take("memory", parseSize),
    rate: take("rate", parseRate),
  };
  const expires = take("expires", parseDate);
  for (const unknown of said.keys()) throw new Error(`unknown "${unknown}=": ${EXPECTED}`);
  return { key, name, permissions, ...(expires && { expires }) };
}

function parseName(text: string): string {
  if (NAME.test(text)) return text;
  throw new Error(`cannot use "${text}" as a name: expected letters, digits, dots, dashes and underscores, 64 at most`);
}

function parseList(text: string): readonly string[] {
  const list = text.split(",");
  if (list.length <= MAX_LIST && list.every((entry) => entry !== "")) return list;
  throw new Error(`cannot use "${text}": expected up to ${MAX_LIST} names with commas between them`);
}

function parseSessions(text: string): number {
  const count = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= MAX_SESSIONS) return count;
  throw new Error(`cannot use "${text}": expected a number of sessions from 1 to ${MAX_SESSIONS}`);
}

/** A day begins at midnight, UTC. */
function parseDate(text: string): Date {
  const date = new Date(DATE.test(text) ? text : "");
  // The 31st of a month that has none is no day of the next.
  if (!Number.isNaN(date.getTime()) && date.toISOString().startsWith(text.slice(0, 10))) return date;
  throw new Error(`cannot use "${text}": expected a date, such as 2027-01-01 or 2027-01-01T12:00Z`);
}

function splitOnce(word: string): [string, string] {
  const at = word.indexOf("=");
  return at < 0 ? [word, ""] : [word.slice(0, at), word.slice(at + 1)];
}

/** Whether a name is in a list of patterns, in which `*` stands for any characters. Undefined permits all. */
export function permits(patterns: readonly string[] | undefined, name: string): boolean {
  return patterns === undefined || patterns.some((pattern) => matches(pattern, name));
}

/** By pieces instead of a regular expression: a pattern must not cost more than its length. */
function matches(pattern: string, name: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  if (rest.length === 0) return name === pattern;
  const last = rest.pop()!;
  if (!name.startsWith(first) || name.length < first.length + last.length || !name.endsWith(last)) return false;
  let at = first.length;
  for (const piece of rest) {
    const found = name.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return at <= name.length - last.length;
}
