// Bounds of what the command line says of names and passphrases.
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { overConnections } from "../../cli/connections.ts";
import { PARALLEL, SETTLE_MS } from "../../cli/live.ts";
import { SWITCHOVER_MS } from "../../cli/live-options.ts";
import { MIN_SPOOL_LIMIT } from "../../cli/migrate.ts";
import { readOptions } from "../../cli/options.ts";
import { DEFAULT_SESSIONS, MAX_SESSIONS, SPOOL_LIMIT } from "../../cli/receive.ts";
import { READ_AHEAD, RETURNS, readDomain, readLogLimit } from "../../cli/settings.ts";
import { readPassphrase } from "../../cli/trust.ts";
import { at, errorOf, inFolder } from "../transports/helpers.ts";

const SPECS = [
  { name: "domain", value: "NAME", text: "" },
  { name: "connections", value: "N", text: "" },
  { name: "spool-limit", value: "SIZE", text: "" },
  { name: "passphrase-file", value: "FILE", text: "" },
];
const options = (...argv: string[]) => readOptions(argv, SPECS, {}).options;

test("a domain has 256 characters", () => {
  expect(readDomain(options("--domain", "d".repeat(256)))).toBe("d".repeat(256));
  expect(() => readDomain(options("--domain", "d".repeat(257)))).toThrow("a domain of 1 to 256 characters");
});

test("a passphrase has 1024 characters", () =>
  inFolder(async (folder) => {
    const path = `${folder}/passphrase`;
    const read = (length: number) => {
      writeFileSync(path, "p".repeat(length), { mode: 0o600 });
      return readPassphrase(options("--passphrase-file", path));
    };
    expect(await read(1024)).toBe("p".repeat(1024));
    expect(await errorOf(read(1025))).toMatchObject({ code: "usage" });
    expect((await errorOf(read(1_000_000))).message).toContain("passphrase");
  }));

test("a session has up to 16 connections", () => {
  const { transport } = at("tcp://a:1");
  expect(overConnections(transport, options())).toBe(transport);
  expect(overConnections(transport, options("--connections", "16"))).not.toBe(transport);
  expect(() => overConnections(transport, options("--connections", "17"))).toThrow("17");
});

test("a spool has 64 GiB at a receiver, at least 4 GiB at a sender, and what is said instead", () => {
  expect([SPOOL_LIMIT, MIN_SPOOL_LIMIT]).toEqual([64 * 2 ** 30, 4 * 2 ** 30]);
  expect(readLogLimit(options(), SPOOL_LIMIT)).toBe(2 ** 24);
  expect(readLogLimit(options("--spool-limit", "1M"), SPOOL_LIMIT)).toBe(256);
});

test("a daemon has 8 sessions at once, and 1024 at most", () => {
  expect([DEFAULT_SESSIONS, MAX_SESSIONS]).toEqual([8, 1024]);
});

// What obeys these is tested with others.
test("defaults of guests that move, for which no test can wait", () => {
  expect([PARALLEL, SWITCHOVER_MS, SETTLE_MS]).toEqual([2, 5000, 60_000]);
  expect([RETURNS, READ_AHEAD]).toEqual([{ window: 20, log: 65_536 }, 131_072]);
});
