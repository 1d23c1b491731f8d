import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { CancelledError } from "../../../../core/errors.ts";
import { HANDSHAKE_MS } from "../../../../core/machines/nbd/client.ts";
import { type Answer, exportInfo, GREETING, optionReply, u16, u32, u64 } from "../../../support/nbd-server.ts";
import { within } from "../../../support/session.ts";
import { failure, openPair } from "./connect.ts";

const bytes = Buffer.alloc(8192, "disk");
const ACK = (option: number) => optionReply(option, 1);
const context = (name: string) => optionReply(10, 4, Buffer.concat([u32(7), Buffer.from(name)]));
/** A server that answers one option in its own way. */
const answering = (which: number, answer: Answer) => ({
  bytes,
  option: (option: number) => (option === which ? answer : undefined),
});
const greeting = (...parts: Buffer[]) => ({ bytes, greeting: Buffer.concat(parts) });
const MAGIC = GREETING.subarray(0, 16);

/** Replies that say nothing of interest, as large as they may be. */
const many = (count: number) => Array.from({ length: count }, () => optionReply(8, 2, Buffer.alloc(8192)));

describe("a handshake", () => {
  test("tells the disk's size, in whatever pieces it arrives", async () => {
    for (const split of [[1], [3], [18, 20], [1000]]) {
      await using pair = await openPair({ bytes, split });
      expect(pair.client.size).toBe(8192);
    }
  });

  test("minds neither information nor flags that were not asked for", async () => {
    const sizes = optionReply(7, 3, Buffer.concat([u16(3), u32(1), u32(4096), u32(1 << 25)]));
    const go = Buffer.concat([sizes, exportInfo(123, 0xffff), ACK(7)]);
    await using pair = await openPair({ ...answering(7, go), ...greeting(MAGIC, u16(0xffff)), bytes });
    expect(pair.client.size).toBe(123);
  });

  test.each([
    ["refuses the context", optionReply(10, 2 ** 31 + 1)],
    ["has no such context", ACK(10)],
  ])("a server that %s has bytes everywhere", async (_, answer) => {
    await using pair = await openPair({ ...answering(10, answer), extents: [[8192, 2]] });
    expect(await pair.client.extents(4096, 4096)).toEqual([{ length: 4096, zeros: false }]);
    expect(pair.server.requests).toEqual([]);
  });

  test.each([
    ["is old", "newstyle", greeting(MAGIC, u16(0))],
    ["is older", "newstyle", greeting(MAGIC.subarray(0, 8), Buffer.alloc(144))],
    ["has no structured replies", "structured", answering(8, optionReply(8, 2 ** 31 + 1))],
    ["can't send whole", "one chunk", answering(7, Buffer.concat([exportInfo(1, 1), ACK(7)]))],
    ["refuses with a reason", "no such disk", answering(7, optionReply(7, 2 ** 31 + 6, Buffer.from("no such disk")))],
    ["refuses without", "error 6", answering(7, optionReply(7, 2 ** 31 + 6))],
    ["ends", "closed the connection", answering(10, "end")],
  ])("a server that %s can't be read: %s", async (_, message, options) => {
    const error = await failure(within(openPair(options)));
    expect(error.code).toBe("input");
    expect(error.message).toContain('Cannot read "disk": ');
    expect(error.message).toContain(message);
  });

  test.each([
    ["begins as no NBD server", greeting(Buffer.from("HTTP/1.1 400 Bad Request"))],
    ["answers without magic", answering(8, Buffer.alloc(20))],
    ["answers what was not asked", answering(8, ACK(7))],
    ["answers 4 GiB", answering(8, optionReply(8, 3, Buffer.alloc(0), 2 ** 32 - 1))],
    ["answers without end", answering(8, Buffer.concat(Array.from({ length: 200 }, () => optionReply(8, 2))))],
    ["answers with a byte too many", answering(8, optionReply(8, 3, Buffer.alloc(0), 8193))],
    ["answers 65 times", answering(8, Buffer.concat([...many(64), ACK(8)]))],
    ["offers another context", answering(10, Buffer.concat([context("base:x"), ACK(10)]))],
    ["offers a context without a name", answering(10, Buffer.concat([optionReply(10, 4, u16(1)), ACK(10)]))],
    ["tells no size", answering(7, ACK(7))],
    ["tells half a size", answering(7, Buffer.concat([optionReply(7, 3, Buffer.alloc(8)), ACK(7)]))],
    ["tells too large a size", answering(7, Buffer.concat([exportInfo(2n ** 53n), ACK(7)]))],
    ["tells the largest size", answering(7, Buffer.concat([exportInfo(2n ** 64n - 1n), ACK(7)]))],
  ])("a server that %s breaks the protocol", async (_, options) => {
    const error = await failure(within(openPair(options)));
    expect(error.name).toBe("ProtocolError");
    expect(error.message).toContain('Cannot read "disk": its NBD server breaks the protocol: ');
  });

  test("takes 64 answers of 8 KiB", async () => {
    await using pair = await openPair({ ...answering(8, Buffer.concat([...many(63), ACK(8)])) });
    expect(pair.client.size).toBe(8192);
    expect(HANDSHAKE_MS).toBe(10_000);
  });

  test("takes the largest size that a number holds", async () => {
    const go = Buffer.concat([exportInfo(Number.MAX_SAFE_INTEGER), ACK(7)]);
    await using pair = await openPair(answering(7, go));
    expect(u64(pair.client.size).readBigUInt64BE()).toBe(2n ** 53n - 1n);
  });

  test("with a server that is silent ends in time, and at once when it is aborted", async () => {
    const silent = { bytes, option: () => null };
    const late = await failure(within(openPair(silent, { handshakeMs: 100 })));
    expect([late.code, late.message]).toEqual(["input", 'Cannot read "disk": its NBD server is silent for 0.1 s']);
    const abort = new AbortController();
    setTimeout(() => abort.abort(new CancelledError("by hand")), 50);
    expect((await failure(within(openPair(silent, { signal: abort.signal })))).message).toBe("by hand");
    expect((await failure(within(openPair(silent, { signal: abort.signal })))).message).toBe("by hand");
  });

  test("that is cut anywhere fails, and so does what comes after it", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(300), fc.integer({ min: 1, max: 50 }), async (limit, step) => {
        const use = async () => {
          await using pair = await openPair({ bytes, limit, split: [step] });
          await pair.client.extents(0, 8192);
          await pair.client.read(new Uint8Array(8192), 0);
        };
        const error = await failure(within(use()));
        expect([error.code, error.message]).toEqual([
          "input",
          'Cannot read "disk": its NBD server closed the connection',
        ]);
      }),
      { numRuns: 100 },
    );
  });

  test("with random bytes in it fails", async () => {
    const noise = fc.uint8Array({ minLength: 1, maxLength: 60 }).map((some) => Buffer.from(some));
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(0, 7, 8, 10), noise, async (where, some) => {
        const options = where === 0 ? greeting(some) : answering(where, some);
        const error = await failure(within(openPair({ ...options, bytes }, { handshakeMs: 30 })));
        expect(error.code).toMatch(/^(input|integrity)$/);
      }),
      { numRuns: 40 },
    );
  });
});
