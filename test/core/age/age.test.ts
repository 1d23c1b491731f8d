import { describe, expect, test } from "bun:test";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { generateHybridIdentity, generateX25519Identity } from "age-encryption";
import fc from "fast-check";
import { AGE_MAGIC, openAge } from "../../../core/age/decrypt.ts";
import { encryptTo } from "../../../core/age/encrypt.ts";
import {
  type AgeIdentity,
  MAX_IDENTITIES,
  MAX_RECIPIENTS,
  parseIdentities,
  parseRecipient,
} from "../../../core/age/keys.ts";
import { CancelledError, LinkError, ShrinkerError } from "../../../core/errors.ts";
import type { Connection } from "../../../core/transport/transport.ts";
import { bytesOf, errorOf, inFolder, readAll, same } from "../../transports/helpers.ts";

/** Takes what is written, or fails as `write` does. */
function taking(write: () => Promise<void> = async () => {}) {
  const parts: Uint8Array[] = [];
  let reason: Error | undefined;
  const state = { ended: false, most: 0 };
  const connection: Connection = {
    peer: "file:a",
    duplex: false,
    input: (async function* () {})(),
    async write(buffers) {
      await write();
      if (reason) throw reason;
      for (const buffer of buffers) {
        parts.push(new Uint8Array(buffer));
        state.most = Math.max(state.most, buffer.length);
      }
    },
    async end() {
      state.ended = true;
    },
    async destroy(why) {
      reason ??= why ?? new Error("destroyed");
    },
  };
  return { connection, state, bytes: () => Buffer.concat(parts) };
}

async function* cut(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

function giving(input: AsyncIterable<Uint8Array>): Connection {
  const nothing = async () => {};
  return { peer: "file:a", duplex: false, input, write: nothing, end: nothing, destroy: nothing };
}

const key = async (): Promise<AgeIdentity> => (await parseIdentities(await generateX25519Identity(), "key"))[0]!;
const [ours, theirs] = [await key(), await key()];

async function seal(bytes: Uint8Array, pieces: readonly number[] = [1 << 20]): Promise<Buffer> {
  const { connection, bytes: sealed, state } = taking();
  const encrypting = await encryptTo(connection, [theirs.recipient, ours.recipient]);
  for (let at = 0, i = 0; at < bytes.length; i++) {
    // The caller's buffer is its own again once the write is done.
    const part = Buffer.from(bytes.subarray(at, at + pieces[i % pieces.length]!));
    await encrypting.write([part.subarray(0, 1), part.subarray(1)]);
    at += part.length;
    part.fill(0);
  }
  expect(state.ended).toBe(false);
  await encrypting.end();
  await encrypting.end();
  expect(state.ended).toBe(true);
  expect(state.most).toBeLessThan(70_000);
  return sealed();
}

const open = (bytes: Uint8Array, keys: readonly AgeIdentity[] = [ours], size = 100_000) =>
  readAll(openAge(giving(cut(bytes, size)), keys).connection.input);

describe("age", () => {
  test("what is encrypted to a key is read with it, in any pieces", async () => {
    const size = fc.integer({ min: 1, max: 200_000 });
    await fc.assert(
      fc.asyncProperty(
        fc.nat(400_000),
        fc.array(size, { minLength: 1, maxLength: 4 }),
        size,
        async (length, pieces, read) => {
          const plain = bytesOf("plain", 400_000).subarray(0, length);
          const sealed = await seal(plain, pieces);
          expect(sealed.subarray(0, AGE_MAGIC.length).equals(AGE_MAGIC)).toBe(true);
          expect(same(await open(sealed, [ours], Math.max(read, sealed.length >> 8)), plain)).toBe(true);
        },
      ),
      { numRuns: 15 },
    );
  });

  test("a header that comes byte by byte is read", async () => {
    expect((await open(await seal(Buffer.from("hello")), [ours], 1)).toString()).toBe("hello");
  });

  test("post-quantum keys do as well", async () => {
    const [hybrid] = (await parseIdentities(await generateHybridIdentity(), "key")) as [AgeIdentity];
    const { connection, bytes } = taking();
    const encrypting = await encryptTo(connection, [await parseRecipient(hybrid.recipient.text)]);
    await encrypting.write([Buffer.from("hello")]);
    await encrypting.end();
    expect((await open(bytes(), [ours, hybrid])).toString()).toBe("hello");
  });

  test("what is not encrypted passes as it is", async () => {
    for (const plain of [Buffer.alloc(0), Buffer.from("age-encryption.org/v2\n"), bytesOf("plain", 300_000)]) {
      for (const size of [1000, 7]) {
        const opened = openAge(giving(cut(plain.subarray(0, size * 1000), size)), []);
        expect(same(await readAll(opened.connection.input), plain.subarray(0, size * 1000))).toBe(true);
        expect(opened.encrypted).toBe(false);
      }
    }
  });

  test("without its key it is refused, with words of what to do", async () => {
    const sealed = await seal(Buffer.from("hello"));
    for (const [keys, words] of [
      [[], "give the file of your age key, --age-identity FILE"],
      [[await key()], "encrypted to other keys"],
    ] as const) {
      const error = await errorOf(open(sealed, keys));
      expect(error).toHaveProperty("code", "input");
      expect(error.message).toContain(words);
    }
    expect((await open(sealed, [await key(), ours])).toString()).toBe("hello");
  });

  test("a byte that is changed, or that is missing, is noticed, and nothing wrong is given out", async () => {
    const plain = bytesOf("plain", 150_000);
    const sealed = await seal(plain);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(sealed.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        async (at, bits, change) => {
          const wrong = change ? Buffer.from(sealed) : sealed.subarray(0, at);
          if (change) wrong[at]! ^= bits;
          const given: Uint8Array[] = [];
          const opened = openAge(giving(cut(wrong, 60_000)), [ours]);
          const error = await (async () => {
            for await (const piece of opened.connection.input) given.push(piece);
            return undefined;
          })().catch((error) => error);
          const out = Buffer.concat(given);
          // In its first line it is no longer known for what it is: then it is no bundle at all.
          if (!opened.encrypted) expect(same(out, wrong)).toBe(true);
          else {
            expect(error).toBeInstanceOf(ShrinkerError);
            expect(["integrity", "input"]).toContain(error.code);
            expect(same(out, plain.subarray(0, out.length))).toBe(true);
          }
        },
      ),
      { numRuns: 60 },
    );
    expect(await errorOf(open(Buffer.concat([sealed, Buffer.of(0)])))).toHaveProperty("code", "integrity");
  });

  test("headers that never end, or have too many recipients, are refused before anything is tried", async () => {
    const endless = Buffer.concat([AGE_MAGIC, Buffer.alloc(400_000, "a")]);
    expect((await errorOf(open(endless))).message).toContain("age header of more than");
    const many = `${AGE_MAGIC}${`-> X25519 ${"A".repeat(43)}\n${"A".repeat(43)}\n`.repeat(200)}--- ${"A".repeat(43)}\n`;
    expect((await errorOf(open(Buffer.from(many)))).message).toContain("encrypted to 200 recipients");
    const messageOf = async (text: string | Buffer) => (await errorOf(open(Buffer.from(text)))).message;
    const key = "A".repeat(43);
    const headed = (count: number) => `${AGE_MAGIC}${`-> X ${key}\n${key}\n`.repeat(count)}--- ${key}\n`;
    expect(await messageOf(headed(129))).toContain("encrypted to 129 recipients");
    expect(await messageOf(headed(128))).toContain("encrypted to other keys");
    const long = (length: number) => Buffer.concat([AGE_MAGIC, Buffer.alloc(length - AGE_MAGIC.length, "a")]);
    expect(await messageOf(long(256 << 10))).toContain("age header of more than 262144 bytes");
    expect(await messageOf(long((256 << 10) - 1))).not.toContain("age header of more");
  });

  test("a connection's own failure is told as it is", async () => {
    const sealed = await seal(bytesOf("plain", 200_000));
    const broken = new LinkError("gone");
    const input = async function* () {
      yield sealed.subarray(0, 100_000);
      throw broken;
    };
    expect(await errorOf(readAll(openAge(giving(input()), [ours]).connection.input))).toBe(broken);

    const full = new ShrinkerError("space", "full");
    const bad = await encryptTo(taking(() => Promise.reject(full)).connection, [ours.recipient]);
    const piece = Buffer.alloc(1 << 20);
    const error = await errorOf(
      bad
        .write([piece])
        .then(() => bad.write([piece]))
        .then(() => bad.end()),
    );
    expect(error).toBe(full);
    expect(await errorOf(bad.end())).toBe(full);
  });

  test("destroy ends a write that waits, and what is written is not ended", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { connection, state } = taking(() => promise);
    const encrypting = await encryptTo(connection, [ours.recipient]);
    const reason = new CancelledError("enough");
    const writing = errorOf(encrypting.write([Buffer.alloc(8 << 20)]));
    await encrypting.destroy(reason);
    expect(await writing).toBe(reason);
    resolve();
    expect(await errorOf(encrypting.end())).toBe(reason);
    expect(state.ended).toBe(false);
  });

  test("of a large write that is not taken, no more than some pieces of 256 KiB are encrypted", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const encrypting = await encryptTo(taking(() => promise).connection, [ours.recipient]);
    const buffer = Buffer.alloc(8 << 20);
    const cuts: number[] = [];
    buffer.subarray = (start, end) => {
      cuts.push(end! - start!);
      return Buffer.prototype.subarray.call(buffer, start, end);
    };
    const writing = errorOf(encrypting.write([buffer]));
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(Math.max(...cuts)).toBe(256 << 10);
    expect(cuts.length).toBeLessThanOrEqual(4);
    await encrypting.destroy(new CancelledError("enough"));
    resolve();
    await writing;
  });

  test("keys that are none are refused, and secret ones never quoted", async () => {
    for (const text of [
      "",
      "age1",
      "ssh-ed25519 AAAA",
      `${ours.recipient.text}x`,
      ours.secret,
      ours.secret.toLowerCase(),
    ]) {
      const error = await errorOf(parseRecipient(text));
      expect(error).toHaveProperty("code", "usage");
      expect(error.message.toUpperCase()).not.toContain(ours.secret.slice(0, 30));
    }
    expect((await parseRecipient(ours.recipient.text)).digest.equals(ours.recipient.digest)).toBe(true);
    expect([MAX_RECIPIENTS, MAX_IDENTITIES]).toEqual([64, 16]);
    expect(await parseIdentities(`${ours.secret}\n`.repeat(16), "key")).toHaveLength(16);
    const file = `# created: today\n\n${ours.secret}\r\n`;
    expect((await parseIdentities(file, "key")).map(({ recipient }) => recipient.text)).toEqual([ours.recipient.text]);
    for (const text of ["", "# nothing", `${ours.secret}x`, `${ours.secret}\n`.repeat(MAX_IDENTITIES + 1)]) {
      const error = await errorOf(parseIdentities(text, "key"));
      expect(error).toHaveProperty("code", "input");
      expect(error.message).not.toContain(ours.secret.slice(0, 30));
    }
  });

  const age = spawnSync("age", ["--version"]).status === 0;
  test.skipIf(!age)("age itself reads what is written here, and the other way round", () =>
    inFolder(async (folder) => {
      const plain = bytesOf("plain", 200_000);
      writeFileSync(`${folder}/key`, ours.secret, { mode: 0o600 });
      writeFileSync(`${folder}/a.age`, await seal(plain));
      const read = execFileSync("age", ["-d", "-i", `${folder}/key`, `${folder}/a.age`], { maxBuffer: 1 << 20 });
      expect(same(read, plain)).toBe(true);
      execFileSync("age", ["-r", ours.recipient.text, "-o", `${folder}/b.age`], { input: plain });
      expect(same(await open(readFileSync(`${folder}/b.age`)), plain)).toBe(true);
    }),
  );
});
