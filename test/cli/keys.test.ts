// What the options about keys say, and what they may not.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { generateX25519Identity } from "age-encryption";
import { commands } from "../../cli/commands.ts";
import { readAgeIdentities, readRecipients } from "../../cli/key-files.ts";
import { type Options, readOptions } from "../../cli/options.ts";
import { checkSender, describeSigner, readTrusted } from "../../cli/senders.ts";
import { readSigner } from "../../cli/signing.ts";
import { type AgeIdentity, parseIdentities } from "../../core/age/keys.ts";
import { signer } from "../support/signer.ts";
import { at, errorOf } from "../transports/helpers.ts";
import { type Workspace, workspace } from "./files.ts";

let here: Workspace;
let key: AgeIdentity;
const ours = signer();

function options(command: string, ...argv: string[]): Options {
  const spec = commands.find(({ name }) => name === command)!;
  return readOptions(argv, spec.options, {}).options;
}

function file(name: string, text: string, mode = 0o600): string {
  writeFileSync(here.path(name), text, { mode });
  return here.path(name);
}

beforeAll(async () => {
  here = workspace();
  const secret = await generateX25519Identity();
  [key] = (await parseIdentities(secret, "key")) as [AgeIdentity];
  file("age.key", secret);
  file("open.key", secret, 0o644);
  file("empty", "# nothing\n");
  file("long", "#".repeat(300_000));
  file("recipients", `# who may read it\n${key.recipient.text}\r\n\n${key.recipient.text}\n`);
});
afterAll(() => here[Symbol.dispose]());

const recipients = (to: string, ...words: string[]) =>
  readRecipients(options("migrate", ...words.flatMap((word) => ["--encrypt-to", word])), at(to).address);

describe("--encrypt-to", () => {
  test("takes recipients, and files of them", async () => {
    const { text } = key.recipient;
    const all = await recipients("file:x", text, `@${here.path("recipients")}`);
    expect(all.map((one) => one.text)).toEqual([text, text, text]);
    expect(await recipients("tcp://127.0.0.1:9")).toEqual([]);
    const most = Array.from({ length: 32 }, () => `@${here.path("recipients")}`);
    expect(await recipients("file:x", ...most)).toHaveLength(64);
    expect((await errorOf(recipients("file:x", ...most, text))).message).toContain("encrypted to 64 at most");
    // 256 KiB of a file are read, and of a longer one nothing is used.
    const long = (length: number) => file("longest", `${text}\n#`.padEnd(length, "x"));
    expect(await recipients("file:x", `@${long(256 << 10)}`)).toHaveLength(1);
    expect((await errorOf(recipients("file:x", `@${long((256 << 10) + 1)}`))).message).toContain("no file of keys");
  });

  test("refuses what is none, too many, and what is no bundle", async () => {
    const many = Array.from({ length: 33 }, () => `@${here.path("recipients")}`);
    for (const [code, words, to, ...given] of [
      ["usage", "a link is encrypted by its transport", "tcp://127.0.0.1:9", key.recipient.text],
      ["usage", "expected a public key of age's", "file:x", "age1wrong"],
      ["usage", "Too many recipients", "file:x", ...many],
      ["usage", "names no recipient", "file:x", `@${here.path("empty")}`],
      ["input", "no such file", "file:x", `@${here.path("nothing")}`],
      ["input", "no file of keys", "file:x", `@${here.path("long")}`],
    ] as const) {
      const error = await errorOf(recipients(to, ...given));
      expect(error.message).toContain(words);
      expect(error.code).toBe(code);
    }
  });
});

test("--age-identity takes a file that is its owner's alone", async () => {
  const read = (name: string) => readAgeIdentities(options("receive", "--age-identity", here.path(name)));
  expect((await read("age.key")).map(({ recipient }) => recipient.text)).toEqual([key.recipient.text]);
  expect(await readAgeIdentities(options("receive"))).toEqual([]);
  for (const [name, words] of [
    ["open.key", "(mode 644): chmod 600 it"],
    ["empty", "there is none"],
    ["long", "no file of keys"],
    ["nothing", "no such file"],
  ] as const) {
    const error = await errorOf(read(name));
    expect(error).toHaveProperty("code", "input");
    expect(error.message).toContain(words);
  }
});

test("--identity signs, and what is no such key is refused", async () => {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const wrong = generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey;
  const path = file("ours.pem", privateKey.export({ format: "pem", type: "pkcs8" }) as string);
  file("p384.pem", wrong.export({ format: "pem", type: "pkcs8" }) as string);
  const found = await readSigner(options("migrate", "--identity", path), [key.recipient]);
  expect(found?.key).toMatch(/^p256:/);
  expect(found?.recipients).toEqual([key.recipient.digest]);
  expect(await readSigner(options("migrate", "--identity", path, "--no-sign"), [])).toBe(undefined);
  for (const name of ["age.key", "p384.pem", "empty", "nothing"]) {
    expect(await errorOf(readSigner(options("migrate", "--identity", here.path(name)), []))).toHaveProperty(
      "code",
      "input",
    );
  }
});

describe("--trust", () => {
  const arrived = { peer: "file:a", encrypted: false };
  const trusted = (...words: string[]) =>
    readTrusted(
      options("receive", "--authorized-peers", here.path("nothing"), ...words.flatMap((word) => ["--trust", word])),
      "default",
    );

  test("names keys, and nothing else", async () => {
    expect(await trusted()).toBe(undefined);
    expect([...(await trusted(ours.key, ours.key))!.keys()]).toEqual([ours.key]);
    for (const word of [
      "",
      "p256:",
      `${ours.key}=`,
      ours.key.slice(0, -1),
      `p256:${"A".repeat(44)}`,
      key.recipient.text,
    ])
      expect((await errorOf(trusted(word))).message).toContain("as a key");
  });

  test("may be given 1024 times", async () => {
    const many = new Array<string>(1024).fill(ours.key);
    expect((await trusted(...many))!.size).toBe(1);
    expect(await errorOf(trusted(...many, ours.key))).toMatchObject({ code: "usage" });
  });

  test("takes bundles of these keys only", async () => {
    const foreign = { key: signer().key, recipients: [] };
    const own = { key: ours.key, recipients: [] };
    const [anybody, us] = [await trusted(), await trusted(ours.key)];
    for (const [signed, whom] of [
      [undefined, anybody],
      [foreign, anybody],
      [own, us],
    ] as const)
      checkSender(signed, whom, [], arrived);
    expect(() => checkSender(undefined, us, [], arrived)).toThrow("is not signed");
    expect(() => checkSender(foreign, us, [], arrived)).toThrow("who is not trusted here");
  });

  test("what was encrypted again, to others than the signer named, is refused", () => {
    const check = (recipients: Uint8Array[], encrypted: boolean) =>
      checkSender({ key: ours.key, recipients }, undefined, [key], { ...arrived, encrypted });
    const other = new Uint8Array(32);
    check([other, key.recipient.digest], true);
    check([other], false);
    check([], true);
    expect(() => check([other], true)).toThrow("encrypted again since");
  });

  test("a signer is told with the name that is known for the key", () => {
    const own = { key: ours.key, recipients: [] };
    expect(describeSigner(own, new Map([[ours.key, "site-a"]]))).toEqual({
      event: { signed: { key: ours.key, name: "site-a" } },
      line: `signed by ${ours.key} (site-a)`,
    });
    expect(describeSigner(undefined, undefined).event).toEqual({ signed: null });
  });
});
