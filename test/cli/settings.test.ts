// Bounds of what the command line says of names and passphrases.
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { readOptions } from "../../cli/options.ts";
import { readDomain } from "../../cli/settings.ts";
import { readPassphrase } from "../../cli/trust.ts";
import { errorOf, inFolder } from "../transports/helpers.ts";

const SPECS = [
  { name: "domain", value: "NAME", text: "" },
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
