import { describe, expect, test } from "bun:test";
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { formatAuthorizedPeer, parseAuthorizedPeers, permits } from "../../../core/identity/authorized-peers.ts";
import { certifySuccessor, MAX_SUCCESSIONS, pem } from "../../../core/identity/certificates.ts";
import { loadIdentity, newIdentity, ownWords, rotate, saveIdentity } from "../../../core/identity/identity.ts";
import { generateKey } from "../../../core/identity/key.ts";
import { authorityOf, parseKnownPeers, withKnownPeer } from "../../../core/identity/known-peers.ts";
import { AuthorizedPeers, readPeerFile, writePeerFile } from "../../../core/identity/peer-files.ts";
import { parseAddress } from "../../../core/transport/transport.ts";
import { transports } from "../../../transports/registry.ts";
import { errorOf, inFolder } from "../../transports/helpers.ts";

const none = async (): Promise<string> => {
  throw new Error("nobody is to be asked");
};
const [a, b] = [generateKey().word, generateKey().word];

describe("the identity file", () => {
  test("keeps a key and its successions, for its owner alone", () =>
    inFolder(async (folder) => {
      const path = `${folder}/new/identity`;
      expect(await loadIdentity(path, none)).toBe(undefined);
      let identity = newIdentity();
      const words = [identity.word];
      for (let i = 0; i < MAX_SUCCESSIONS + 1; i++) {
        identity = rotate(identity);
        words.unshift(identity.word);
      }
      await saveIdentity(path, identity, undefined);
      expect([statSync(path).mode & 0o777, statSync(`${folder}/new`).mode & 0o777]).toEqual([0o600, 0o700]);
      const read = await loadIdentity(path, none);
      expect(ownWords(read!)).toEqual(words.slice(0, MAX_SUCCESSIONS + 1));
      for (const mode of [0o640, 0o604, 0o620, 0o601]) {
        chmodSync(path, mode);
        const error = await errorOf(loadIdentity(path, none));
        expect([error.code, /chmod 600/.test(error.message)]).toEqual(["refused", true]);
      }
    }));

  test("is refused where anything in it does not fit", () =>
    inFolder(async (folder) => {
      const path = `${folder}/identity`;
      const [own, other] = [newIdentity(), newIdentity()];
      await saveIdentity(path, rotate(own), undefined);
      const text = readFileSync(path, "latin1");
      const key = text.slice(0, text.indexOf("-----BEGIN CERT"));
      const wrong = [
        "",
        "no key",
        key.replace("MI", "MA"),
        text.slice(key.length),
        key + pem(certifySuccessor(own, other.word)),
        text + text.slice(key.length),
        "x".repeat(70_000),
      ];
      for (const content of wrong) {
        writeFileSync(path, content, { mode: 0o600 });
        expect(await errorOf(loadIdentity(path, none))).toHaveProperty("code", "input");
      }
      expect(await errorOf(loadIdentity(folder, none))).toHaveProperty("code", "input");
    }));

  test("has 64 KiB, and 6 successions", () =>
    inFolder(async (folder) => {
      const path = `${folder}/identity`;
      const identity = newIdentity();
      await saveIdentity(path, identity, undefined);
      const text = readFileSync(path, "latin1");
      const write = (length: number) => writeFileSync(path, text.padEnd(length, "\n"), { mode: 0o600 });
      write(64 << 10);
      expect((await loadIdentity(path, none))?.word).toBe(identity.word);
      write((64 << 10) + 1);
      expect((await errorOf(loadIdentity(path, none))).message).toContain("too big");
      let young = identity;
      for (let i = 0; i < 8; i++) young = rotate(young);
      expect(young.successions).toHaveLength(6);
      const lines = [...young.successions, young.successions[0]!].map(({ der }) => pem(der));
      writeFileSync(path, text + lines.join(""), { mode: 0o600 });
      expect((await errorOf(loadIdentity(path, none))).message).toContain("more than 6 successions");
    }));

  test("may be encrypted by a passphrase", () =>
    inFolder(async (folder) => {
      const path = `${folder}/identity`;
      const identity = newIdentity();
      await saveIdentity(path, identity, "correct horse", 10);
      expect(readFileSync(path, "latin1")).toMatch(/^-----BEGIN AGE ENCRYPTED FILE-----/);
      expect((await loadIdentity(path, async () => "correct horse"))?.word).toBe(identity.word);
      const error = await errorOf(loadIdentity(path, async () => "wrong"));
      expect([error.code, /passphrase/.test(error.message)]).toEqual(["refused", true]);
    }));
});

describe("known peers", () => {
  test("are lines of a host with its port, and a key", () => {
    const peers = parseKnownPeers(`# mine\n\nSite-B:4747 ${a}\t# of B\n  [2001:DB8::1]:1 ${b}\r\n`, "f");
    expect([...peers]).toEqual([
      ["site-b:4747", a],
      ["[2001:db8::1]:1", b],
    ]);
    const of = (text: string) => authorityOf(parseAddress(text, transports));
    expect([of("tcp://Site-B:4747"), of("tcp://[2001:db8::1]:1")]).toEqual(["site-b:4747", "[2001:db8::1]:1"]);
    expect(() => of("tcp://site-b")).toThrow(/host and port/);
  });

  test.each([
    ["a key that is none", `h:1 ${a.slice(1)}`],
    ["no port", `h ${a}`],
    ["no key", "h:1"],
    ["a word too many", `h:1 ${a} ${b}`],
    ["a host twice", `h:1 ${a}\nH:1 ${b}`],
    ["a line that is too long", `h:1 ${a} #${"x".repeat(5000)}`],
    ["too many lines", "\n".repeat(10_001)],
  ])("%s is refused, by its line", (_, text) => {
    expect(() => parseKnownPeers(text, "f")).toThrow(/Cannot use "f"/);
  });

  test("have 10000 lines of 4096 characters, in 1 MiB", async () => {
    const comment = (length: number) => `#${"x".repeat(length - 1)}`;
    expect(parseKnownPeers(`${comment(4096)}\nh:1 ${a}`, "f").size).toBe(1);
    expect(() => parseKnownPeers(comment(4097), "f")).toThrow(/line 1: it is longer than 4096/);
    expect(parseKnownPeers(`h:1 ${a}${"\n".repeat(9999)}`, "f").size).toBe(1);
    expect(() => parseKnownPeers("\n".repeat(10_000), "f")).toThrow(/10000 lines, and 1 MiB/);
    const lines = `${comment(1023)}\n`.repeat(1024);
    expect(lines.length).toBe(1 << 20);
    expect(parseKnownPeers(lines, "f").size).toBe(0);
    expect(() => parseKnownPeers(`${lines}\n`, "f")).toThrow(/10000 lines, and 1 MiB/);
    await inFolder(async (folder) => {
      writeFileSync(`${folder}/peers`, `${lines}\n`, { mode: 0o600 });
      expect((await errorOf(readPeerFile(`${folder}/peers`))).message).toContain("bigger than 1 MiB");
    });
  });

  test("a pin replaces the one before, and leaves the rest as it is", () => {
    const text = `# mine\nsite-b:1 ${a}\nother:1 ${a}`;
    expect(withKnownPeer(text, "site-b:1", b)).toBe(`# mine\nother:1 ${a}\nsite-b:1 ${b}\n`);
    expect(parseKnownPeers(withKnownPeer("", "h:1", a), "f").get("h:1")).toBe(a);
  });
});

describe("authorized peers", () => {
  test("have names, and permissions where these are restricted", () => {
    const line = `${a} name=site-a domains=x,y services=web vms=web-*,db max-sessions=4 memory=2G rate=100Mbit expires=2027-01-01`;
    const peers = parseAuthorizedPeers(`${line}\n${b} name=b`, "f");
    expect(peers.get(a)).toEqual({
      key: a,
      name: "site-a",
      permissions: {
        ...{ domains: ["x", "y"], services: ["web"], vms: ["web-*", "db"] },
        ...{ maxSessions: 4, memory: 2 ** 31, rate: 12_500_000 },
      },
      expires: new Date("2027-01-01T00:00:00Z"),
    });
    expect(peers.get(b)?.permissions.vms).toBe(undefined);
  });

  test.each([
    ["no name", a],
    ["what is misspelt", `${a} name=a domain=x`],
    ["what is said twice", `${a} name=a vms=a vms=b`],
    ["an empty list", `${a} name=a vms=`],
    ["a hole in a list", `${a} name=a vms=a,,b`],
    ["a bare word", `${a} name=a vms`],
    ["a day that is none", `${a} name=a expires=2027-02-31`],
    ["another sort of date", `${a} name=a expires=tomorrow`],
    ["no sessions", `${a} name=a max-sessions=0`],
    ["a rate without a unit", `${a} name=a rate=100M`],
    ["a size that is none", `${a} name=a memory=lots`],
    ["a name that can't be shown", `${a} name=a/b`],
    ["a key twice", `${a} name=a\n${a} name=b`],
  ])("%s is refused, by its line", (_, text) => {
    expect(() => parseAuthorizedPeers(text, "f")).toThrow(/Cannot use "f", line \d: /);
  });

  test("have 256 names in a list, and 1024 sessions", () => {
    const list = (count: number) => `${a} name=a vms=${new Array(count).fill("x").join()}`;
    expect(parseAuthorizedPeers(list(256), "f").get(a)?.permissions.vms).toHaveLength(256);
    expect(() => parseAuthorizedPeers(list(257), "f")).toThrow(/up to 256 names/);
    expect(() => parseAuthorizedPeers(`${a} name=a max-sessions=1025`, "f")).toThrow(/from 1 to 1024/);
  });

  test("what is written is read, and nothing else is thrown", () => {
    const list = fc.array(fc.stringMatching(/^[a-z*-]{1,8}$/), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(list, list, fc.integer({ min: 1, max: 1024 }), (vms, domains, sessions) => {
        const said = [
          ["name", "n"],
          ["vms", vms.join()],
          ["domains", domains.join()],
          ["max-sessions", `${sessions}`],
        ] as const;
        const { permissions } = parseAuthorizedPeers(formatAuthorizedPeer(a, said), "f").get(a)!;
        expect([permissions.vms, permissions.domains, permissions.maxSessions]).toEqual([vms, domains, sessions]);
      }),
    );
    const words = fc.constantFrom(a, b, "name=x", "vms=a", "#", "\n", " ", "=", "rate=1MB", "p256:", "\0");
    fc.assert(
      fc.property(fc.array(fc.oneof(words, fc.string())), (parts) => {
        for (const parse of [parseAuthorizedPeers, parseKnownPeers]) {
          try {
            parse(parts.join(" "), "f");
          } catch (error) {
            expect(error).toHaveProperty("code", "input");
          }
        }
      }),
    );
  });

  test("a pattern permits what a regular expression of it matches", () => {
    const pattern = fc.stringMatching(/^[ab*]{0,6}$/);
    fc.assert(
      fc.property(pattern, fc.stringMatching(/^[ab]{0,8}$/), (glob, name) => {
        expect(permits([glob], name)).toBe(new RegExp(`^${glob.replaceAll("*", ".*")}$`).test(name));
      }),
      { numRuns: 500 },
    );
    expect([permits(undefined, "x"), permits([], "x"), permits(["a", "x"], "x")]).toEqual([true, false, true]);
  });

  test("are read again when the file changes, and must not be others' to change", () =>
    inFolder(async (folder) => {
      const path = `${folder}/deep/authorized-peers`;
      const peers = new AuthorizedPeers(path);
      expect((await peers.current()).size).toBe(0);
      await writePeerFile(path, `${a} name=a\n`);
      expect([...(await peers.current()).keys()]).toEqual([a]);
      expect(await peers.current()).toBe(await peers.current());
      await writePeerFile(path, `${b} name=b\n`);
      expect([...(await peers.current()).keys()]).toEqual([b]);
      writeFileSync(path, "nonsense\n");
      for (let i = 0; i < 2; i++) expect(await errorOf(peers.current())).toHaveProperty("code", "input");
      chmodSync(path, 0o666);
      expect(await errorOf(readPeerFile(path))).toHaveProperty("code", "refused");
    }));
});
