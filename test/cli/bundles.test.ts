// Bundles that are encrypted and signed, by the command: who may read them, and whose are received.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { openAge } from "../../core/age/decrypt.ts";
import { encryptTo } from "../../core/age/encrypt.ts";
import { parseIdentities, parseRecipient } from "../../core/age/keys.ts";
import { generateKey } from "../../core/identity/key.ts";
import { PREFACE_BYTES } from "../../core/wire/numbers.ts";
import { cli } from "../support/cli.ts";
import { dial, listen, readAll } from "../transports/helpers.ts";
import { type Workspace, workspace } from "./files.ts";

let here: Workspace;
let recipient = "";
const keys: Record<string, string> = {};
/** Runs in the folder of the machines. */
const run = (...args: string[]) => cli(args, { cwd: here.folder });

/** A key of the sender's in a file; returns its public key. */
function identity(name: string): string {
  const { privateKey, word } = generateKey();
  writeFileSync(here.path(name), privateKey.export({ format: "pem", type: "pkcs8" }), { mode: 0o600 });
  return word;
}

async function ageKey(name: string): Promise<string> {
  const secret = await generateX25519Identity();
  writeFileSync(here.path(name), `# a key\n${secret}\n`, { mode: 0o600 });
  return identityToRecipient(secret);
}

async function make(name: string, ...options: string[]): Promise<void> {
  const { code, stderr } = await run("migrate", "disk.raw", "--to", `file:${name}`, ...options);
  if (code !== 0) throw new Error(stderr);
}

function change(name: string, to: string, edit: (bytes: Buffer) => Buffer): void {
  writeFileSync(here.path(to), edit(readFileSync(here.path(name))));
}

beforeAll(async () => {
  here = workspace();
  keys.ours = identity("ours.pem");
  keys.theirs = identity("theirs.pem");
  recipient = await ageKey("age.key");
  const other = await ageKey("other.key");
  writeFileSync(here.path("recipients"), `# who may read it\n${recipient}\n\n${other}\n`);
  await Promise.all([
    make("plain.bundle"),
    make("signed.bundle", "--identity", "ours.pem"),
    make("sealed.bundle", "--identity", "ours.pem", "--encrypt-to", "@recipients"),
    make("unsigned.bundle", "--identity", "ours.pem", "--no-sign", "--encrypt-to", recipient),
  ]);
  change("signed.bundle", "cut.bundle", (bytes) => bytes.subarray(0, bytes.length - 200));
  change("signed.bundle", "begun.bundle", (bytes) => bytes.subarray(0, PREFACE_BYTES));
  change("signed.bundle", "changed.bundle", (bytes) => {
    bytes[bytes.length - 10]! ^= 1;
    return bytes;
  });
  change("sealed.bundle", "cut.sealed", (bytes) => bytes.subarray(0, bytes.length - 1));
  change("sealed.bundle", "changed.sealed", (bytes) => {
    bytes[bytes.length >> 1]! ^= 1;
    return bytes;
  });
});
afterAll(() => here[Symbol.dispose]());

describe("a bundle that is received", () => {
  test.each([
    ["plain.bundle", [], null],
    ["signed.bundle", ["--trust", "theirs", "--trust", "ours"], "ours"],
    ["sealed.bundle", ["--age-identity", "age.key", "--trust", "ours"], "ours"],
    ["unsigned.bundle", ["--age-identity", "age.key"], null],
  ] as const)("%s %j", async (bundle, options, signer) => {
    const output = here.path(`of-${bundle}-${options.join("-")}`);
    const words = options.map((word) => keys[word] ?? word);
    const { code, events, stderr } = await run("receive", `file:${bundle}`, "--output", output, ...words, "--json");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(events().at(-1)).toMatchObject({ ok: true, signed: signer && { key: keys[signer]! } });
    expect(here.arrived(output, ["disk.raw"])).toBe(true);
  });

  test("says to people by whom it is signed, or that it is not", async () => {
    const [signed, plain] = await Promise.all(
      ["signed", "plain"].map((name) => run("receive", `file:${name}.bundle`, "--output", here.path(`people-${name}`))),
    );
    expect(signed!.stdout.toString()).toContain(`signed by ${keys.ours}`);
    expect(plain!.stdout.toString()).toContain("not signed");
  });
});

describe("a bundle that is not received", () => {
  test.each([
    [4, "is not signed", "plain.bundle", ["--trust", "ours"]],
    [6, "cut short", "cut.bundle", ["--trust", "ours", "--store", "store"]],
    [6, "cut short", "begun.bundle", ["--trust", "ours"]],
    [6, "does not match its checksum", "changed.bundle", ["--store", "store"]],
    [3, "give the file of your age key", "sealed.bundle", []],
    [4, "is not signed", "unsigned.bundle", ["--age-identity", "age.key", "--trust", "ours"]],
    [6, "damaged or cut short", "cut.sealed", ["--age-identity", "age.key"]],
    [6, "damaged or cut short", "changed.sealed", ["--age-identity", "age.key"]],
  ] as const)("exit code %d: %s, %s %j", async (expected, message, bundle, options) => {
    const output = here.path(`not-${bundle}-${options.join("-")}`);
    const words = options.map((word) => keys[word] ?? word);
    const { code, stderr } = await run("receive", `file:${bundle}`, "--output", output, ...words);
    expect({ code, lines: stderr.trimEnd().split("\n").length }).toEqual({ code: expected, lines: 1 });
    expect(stderr).toContain(message);
    expect(existsSync(output) ? readdirSync(output) : []).toEqual([]);
    const logs = here.path("store", "domains", "default", "logs");
    expect(existsSync(logs) ? readdirSync(logs) : []).toEqual([]);
  });

  test("to standard output, nothing goes out before the signature is right", async () => {
    const to = ["--output", "-", "--trust", keys.ours!];
    const piped = { cwd: here.folder, input: readFileSync(here.path("signed.bundle")) };
    const [right, changed, begun, foreign, pipe] = await Promise.all([
      run("receive", "file:signed.bundle", ...to),
      run("receive", "file:changed.bundle", ...to),
      run("receive", "file:begun.bundle", ...to),
      run("receive", "file:signed.bundle", "--output", "-", "--trust", keys.theirs!),
      cli(["receive", "file:-", ...to], piped),
    ]);
    expect(Buffer.compare(right.stdout, readFileSync(here.path("disk.raw")))).toBe(0);
    expect([right, changed, begun, foreign, pipe].map(({ code }) => code)).toEqual([0, 6, 6, 4, 2]);
    for (const { stdout } of [changed, begun, foreign, pipe]) expect(stdout.length).toBe(0);
    expect(pipe.stderr).toContain("read twice");
  });
});

test("whoever may connect here is trusted, for the domains that they may use, and has a name", async () => {
  const receive = async (line: string, bundle: string) => {
    writeFileSync(here.path("peers"), line, { mode: 0o600 });
    const output = here.path(`by-${Math.random()}`);
    return await run("receive", `file:${bundle}`, "--output", output, "--authorized-peers", "peers", "--json");
  };
  const ours = `${keys.ours} name=site-a`;
  const [named, foreign, domain, expired, unsigned] = [
    await receive(`${ours} domains=x,default\n`, "signed.bundle"),
    await receive(`${keys.theirs} name=site-b\n`, "signed.bundle"),
    await receive(`${ours} domains=x\n`, "signed.bundle"),
    await receive(`${ours} expires=2020-01-01\n`, "signed.bundle"),
    await receive(`${ours}\n`, "plain.bundle"),
  ];
  expect(named.events().at(-1)).toMatchObject({ ok: true, signed: { key: keys.ours, name: "site-a" } });
  expect([foreign, domain, expired, unsigned].map(({ code }) => code)).toEqual([4, 4, 4, 4]);
});

test("a signed bundle that a reader has encrypted again, to others, is refused", async () => {
  const theirs = await ageKey("third.key");
  const mine = await parseIdentities(readFileSync(here.path("age.key"), "utf8"), "age.key");
  const sealed = (await (await listen(`file:${here.path("sealed.bundle")}`)).accept())!;
  const plain = await readAll(openAge(sealed, mine).connection.input);
  const again = await encryptTo(await dial(`file:${here.path("again.bundle")}`), [await parseRecipient(theirs)]);
  await again.write([plain]);
  await again.end();
  const received = await run("receive", "file:again.bundle", "--output", "again", "--age-identity", "third.key");
  expect(received.code).toBe(4);
  expect(received.stderr).toContain("encrypted again since");
  // Decrypted by hand it is received: whoever does that knows what was encrypted.
  writeFileSync(here.path("opened.bundle"), plain);
  const opened = await run("receive", "file:opened.bundle", "--output", "opened", "--trust", keys.ours!);
  expect(opened.code).toBe(0);
});

test("inspect says who has signed, and whether it is encrypted", async () => {
  const { code, events } = await run("inspect", "signed.bundle", "plain.bundle", "sealed.bundle", "--json");
  expect(code).toBe(3);
  expect(events()).toMatchObject([
    { kind: "bundle", encrypted: false, signed: { key: keys.ours }, complete: true },
    { kind: "bundle", encrypted: false, signed: null, complete: true },
    { kind: "bundle", encrypted: true, complete: false, code: "input" },
    { type: "error" },
    { type: "summary", ok: false },
  ]);
  const opened = await run("inspect", "sealed.bundle", "--age-identity", "age.key");
  expect(opened.code).toBe(0);
  expect(opened.stdout.toString()).toContain(`signed by ${keys.ours}`);
});
