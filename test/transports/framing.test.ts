import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { framedConnection } from "../../transports/framed/connection.ts";
import { MAX_GRANT, PIECE_COST, Unframer, WORD, word } from "../../transports/framed/framing.ts";
import { StreamFailure } from "../../transports/framed/link.ts";
import { FIRST_WINDOW, ReceiveWindow, SendWindow } from "../../transports/framed/window.ts";
import { errorOf, readAll } from "./helpers.ts";

/** What comes of a stream that arrives in parts of these lengths, over and over. */
function taken(stream: Uint8Array, lengths: readonly number[]) {
  const said: string[] = [];
  const bytes: Uint8Array[] = [];
  const unframer = new Unframer("peer", {
    begins: (length) => said.push(`piece ${length}`),
    bytes: (part) => bytes.push(part),
    ended: () => said.push("ended"),
    dropped: () => said.push("dropped"),
    heard: () => said.push("heard"),
    granted: (count) => said.push(`granted ${count}`),
  });
  for (let at = 0, i = 0; at < stream.length; i++) {
    const length = lengths[i % lengths.length]!;
    unframer.take(stream.subarray(at, at + length));
    at += length;
  }
  return { said, bytes: Buffer.concat(bytes), left: unframer.left };
}

/** What becomes of the input of a connection whose stream brings these bytes, and then breaks for this reason. */
function broken(peer: string, bytes: Uint8Array, reason: StreamFailure): Promise<Error> {
  const parts = [[bytes]];
  const link = {
    remote: { ip: "192.0.2.1", port: 1 },
    async read() {
      const next = parts.shift();
      if (next === undefined) throw reason;
      return next;
    },
    async write() {},
    async close() {},
  };
  return errorOf(readAll(framedConnection(link, peer, {}).input));
}

const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });

describe("the framing of streams", () => {
  test("pieces and words come out as they went in, however they are cut", () => {
    const pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 8 });
    const grants = fc.array(fc.integer({ min: 1, max: MAX_GRANT }), { maxLength: 8 });
    fc.assert(
      fc.property(pieces, grants, lengths, (sent, granted, cut) => {
        const stream = [word(WORD.OPENED)];
        const said: string[] = [];
        for (const [i, piece] of sent.entries()) {
          stream.push(word(piece.length), Buffer.from(piece));
          said.push(`piece ${piece.length}`);
          if (granted[i] === undefined) continue;
          stream.push(word(WORD.GRANT + granted[i]));
          said.push(`granted ${granted[i]}`);
        }
        stream.push(word(WORD.ENDED), word(WORD.HEARD));
        const got = taken(Buffer.concat(stream), cut);
        expect(got.said).toEqual([...said, "ended", "heard"]);
        expect(Buffer.compare(got.bytes, Buffer.concat(sent))).toBe(0);
        expect(got.left).toBe(0);
      }),
    );
  });

  test.each([
    ["nothing at all", [0]],
    ["a piece after the end", [WORD.ENDED, 1]],
    ["a second end", [WORD.ENDED, WORD.ENDED]],
    // Each would be answered.
    ["a drop that was told already", [WORD.DROPPED, WORD.DROPPED]],
    ["a drop after the end", [WORD.ENDED, WORD.DROPPED]],
    ["an opening that is not the first", [WORD.HEARD, WORD.OPENED]],
    ["a grant of nothing", [WORD.GRANT]],
    ["what no version knows", [0xffff_ff00]],
  ])("%s is refused", (_, words) => {
    expect(() => taken(Buffer.concat(words.map(word)), [3])).toThrow(/broke the framing/);
  });

  test("any bytes are taken or refused, never more than came", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), lengths, (stream, cut) => {
        try {
          expect(taken(stream, cut).bytes.length).toBeLessThanOrEqual(stream.length);
        } catch (error) {
          expect(error).toHaveProperty("code", "integrity");
        }
      }),
    );
  });
});

describe("the windows of streams", () => {
  test("who sends what it is granted is never refused, never stops for good, and never has more than the most under way", async () => {
    const most = 4 * FIRST_WINDOW;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: FIRST_WINDOW }), { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 1, max: 4 }),
        async (writes, slowness) => {
          const incoming = new ReceiveWindow("peer", most);
          const outgoing = new SendWindow();
          const waiting: number[] = [];
          let size = 0;
          const take = () => {
            size -= waiting.shift()! + PIECE_COST;
            const more = incoming.grant(size, 0);
            if (more > 0) outgoing.granted(more);
          };
          for (const [i, write] of writes.entries()) {
            for (let left = write; left > 0; ) {
              const next = outgoing.next(left);
              let length: number | undefined;
              next.then((now) => {
                length = now;
              });
              await Promise.resolve();
              // Whoever reads takes what there is, should the writer have to wait.
              while (length === undefined) {
                if (waiting.length > 0) take();
                await Promise.resolve();
              }
              incoming.spend(length);
              waiting.push(length);
              size += length + PIECE_COST;
              incoming.check(size);
              expect(size).toBeLessThanOrEqual(most);
              left -= length;
            }
            if (i % slowness === 0 && waiting.length > 0) take();
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  test("are 2 MiB at first", () => expect(FIRST_WINDOW).toBe(2 << 20));

  test("who sends more, or cuts it to shreds, is refused", () => {
    const incoming = new ReceiveWindow("peer", FIRST_WINDOW);
    incoming.spend(FIRST_WINDOW - PIECE_COST);
    expect(() => incoming.spend(1)).toThrow(/more than it was granted/);
    expect(() => incoming.check(2 * FIRST_WINDOW)).not.toThrow();
    expect(() => incoming.check(2 * FIRST_WINDOW + 1)).toThrow(/more than it was granted/);
  });
});

/** A stream of which a test is the runtime: gives what it is fed, and keeps what is written. */
function fed() {
  const parts: Uint8Array[] = [];
  const written: Buffer[] = [];
  let more: () => void = () => {};
  return {
    written,
    feed(part: Uint8Array) {
      parts.push(part);
      more();
    },
    /** What was granted by words that were written. */
    get granted() {
      let sum = 0;
      for (const bytes of written) {
        const value = bytes.length === 4 ? bytes.readUInt32LE() : 0;
        if (value > WORD.GRANT && value <= WORD.GRANT + MAX_GRANT) sum += value - WORD.GRANT;
      }
      return sum;
    },
    link: {
      remote: { ip: "192.0.2.1", port: 1 },
      async read() {
        while (parts.length === 0)
          await new Promise<void>((resolve) => {
            more = resolve;
          });
        return parts.splice(0);
      },
      async write(buffers: readonly Uint8Array[]) {
        written.push(Buffer.concat(buffers));
      },
      async close() {},
    },
  };
}

describe("a framed connection", () => {
  test("grants more as it is read, up to 8 MiB that are under way", async () => {
    const stream = fed();
    const input = framedConnection(stream.link, "peer", {}).input[Symbol.asyncIterator]();
    const piece = Buffer.alloc(256 << 10);
    let sent = 0;
    let most = 0;
    for (let round = 0; round < 100; round++) {
      stream.feed(word(piece.length));
      stream.feed(piece);
      sent += piece.length + PIECE_COST;
      for (let left = piece.length; left > 0; ) left -= (await input.next()).value!.length;
      most = Math.max(most, FIRST_WINDOW + stream.granted - sent);
    }
    expect(most).toBeLessThanOrEqual(8 << 20);
    expect(most).toBeGreaterThan(6 << 20);
  });

  test("grants a peer that nobody reads nothing beyond 2 MiB", async () => {
    const stream = fed();
    const { input } = framedConnection(stream.link, "peer", {});
    const length = (2 << 20) - PIECE_COST;
    stream.feed(word(length));
    stream.feed(Buffer.alloc(length));
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect(stream.granted).toBe(0);
    stream.feed(word(1));
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect((await errorOf(readAll(input))).message).toContain("more than it was granted");
  });

  test("sends pieces of 1 MiB, as far as it was granted", async () => {
    const stream = fed();
    const connection = framedConnection(stream.link, "peer", {});
    void connection.write([Buffer.alloc(4 << 20)]).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect(stream.written.map(({ length }) => length - 4)).toEqual([1 << 20, (1 << 20) - 2 * PIECE_COST]);
    await connection.reset!();
  });

  test("takes pieces of 2 GiB - 1, by the framing", () => {
    const begun = taken(word(0x7fff_ffff), [4]);
    expect([begun.said, begun.left]).toEqual([["piece 2147483647"], 2 ** 31 - 1]);
    expect(() => taken(word(0x8000_0000), [4])).toThrow(/broke the framing/);
  });
});

describe.each(["quic://192.0.2.1:1", "webtransport://192.0.2.1:1"])("what is said of a stream of %s", (peer) => {
  const large = Buffer.concat([word(FIRST_WINDOW), Buffer.alloc(10)]);
  test.each([
    [
      "that is not framed",
      word(0),
      "ETIMEDOUT",
      "integrity",
      `${peer} broke the framing of its stream: the word 0 has no place there`,
    ],
    ["that brings too much", large, "ETIMEDOUT", "integrity", `${peer} sends more than it was granted`],
    [
      "that breaks",
      word(WORD.OPENED),
      "ECONNRESET",
      "link",
      `Lost the connection to ${peer}: the peer broke the connection; its own messages say why`,
    ],
    ["that is refused late", word(WORD.OPENED), "PROTOCOL", "link", `Lost the connection to ${peer}: why`],
  ] as const)("%s names its address", async (_, bytes, failure, code, message) => {
    const error = await broken(peer, bytes, new StreamFailure(failure, new Error("why")));
    expect({ ...error, message: error.message }).toMatchObject({ code, message });
  });
});
