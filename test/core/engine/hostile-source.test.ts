import { describe, expect, test } from "bun:test";
import type { ContentBroker } from "../../../core/engine/broker.ts";
import { acceptSession } from "../../../core/engine/destination-session.ts";
import { ShrinkerError } from "../../../core/errors.ts";
import {
  Abort,
  Close,
  decodeControl,
  decodeCredit,
  decodeNumber,
  encodeControl,
  encodeNumber,
  Open,
  Reset,
} from "../../../core/wire/control.ts";
import { COLUMN, FRAME, OP } from "../../../core/wire/numbers.ts";
import { OpWriter } from "../../../core/wire/ops.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { destinationOptions, memoryTarget, type Receiving, siteOf, within } from "../../support/session.ts";
import { noise, text } from "./contents.ts";
import { type HandMade, HandPeer, handMade } from "./wire.ts";

const A = noise(1);
const B = noise(2);
const similar = (page: Buffer) => {
  const next = Buffer.from(page);
  next[100]! ^= 0xff;
  return next;
};
const xor = (a: Buffer, b: Buffer) => Buffer.from(a.map((byte, i) => byte ^ b[i]!));

/** A destination whose source is made by hand. */
async function meet(options: Receiving = {}) {
  const [near, far] = memoryPair();
  const peer = new HandPeer(near);
  const files = memoryTarget();
  const accepting = acceptSession(far, { ...destinationOptions, target: files, ...options });
  await peer.hello({ log: 100 });
  const session = await accepting;
  const running = session.run().then(
    (streams) => ({ streams, error: undefined }),
    (error) => ({ streams: undefined, error }),
  );
  await peer.expect(FRAME.WELCOME);
  const open = (stream: number, name = `s${stream}`, format = "raw") =>
    peer.send(FRAME.OPEN, encodeControl(Open, { stream, name, format }));
  const batch = (made: HandMade) => peer.send(FRAME.BATCH, handMade(made).payload);
  /** The session has failed for a typed reason, the source was told, and no sink kept anything. */
  const refused = async (message?: RegExp) => {
    const { error } = await within(running);
    expect(error).toBeInstanceOf(ShrinkerError);
    expect(error.code).toBe("integrity");
    if (message) expect(error.message).toMatch(message);
    const abort = decodeControl(Abort, (await within(peer.expect(FRAME.ABORT))).payload);
    expect(abort).toEqual({ code: "integrity", message: error.message });
    for (const { ends } of files.all) expect(ends).toEqual(["abort"]);
  };
  return { peer, files, running, open, batch, refused };
}

describe("batches made by hand", () => {
  test("are taken where they are right", async () => {
    const { peer, files, running, open, batch } = await meet();
    await open(1);
    await peer.expect(FRAME.CREDIT);
    const again = similar(A);
    const one = {
      ops: [{ new: A }, { zero: 5000 }, { literal: Buffer.from("x") }, { delta: 0, xor: xor(A, again), of: again }],
    };
    await batch(one);
    const previous = handMade(one).digest;
    const two = {
      first: 2,
      forget: 1,
      previous,
      ops: [{ ref: 1, of: again }, { ref: 1, of: again }, { new: B }, { ref: 1, of: again }, { ref: 2, of: B }],
    };
    await batch(two);
    const close = { stream: 1, length: 8 * 4096 - 4096 + 5001, digest: handMade(two).digest };
    await peer.send(FRAME.CLOSE, encodeControl(Close, close));
    await peer.send(FRAME.DONE, Buffer.from([0x81, 0xa7, ...Buffer.from("streams"), 1]));
    await within(peer.expect(FRAME.LANDED));
    await within(peer.expect(FRAME.DONE));
    await peer.connection.end();
    expect((await within(running)).error).toBeUndefined();
    const expected = Buffer.concat([A, Buffer.alloc(5000), Buffer.from("x"), again, again, again, B, again, B]);
    expect(Buffer.compare(files.get("s1").bytes, expected)).toBe(0);
  });

  const wrong: [string, HandMade][] = [
    ["of an unknown stream", { stream: 2, ops: [{ new: A }] }],
    ["whose first number is not the next one", { first: 1, ops: [{ new: A }] }],
    ["that forget what is not there yet", { forget: 1, ops: [{ new: A }] }],
    ["that refer to the future", { ops: [{ ref: 1, of: A }, { new: A }] }],
    ["that refer to a negative number", { ops: [{ new: A }, { ref: -1, of: A }] }],
    ["that refer to themselves by XOR", { ops: [{ delta: 0, xor: A, of: A }] }],
    ["whose XOR refers to a negative number", { ops: [{ new: A }, { delta: -5, xor: A, of: A }] }],
    ["of another lane", { ops: [{ new: A }], change: (header) => Object.assign(header, { lane: 1 }) }],
    ["with too many contents", { ops: [{ new: A }], change: (header) => Object.assign(header, { count: 257 }) }],
    [
      "with more plain bytes than allowed",
      { ops: [{ new: A }], change: (header) => Object.assign(header, { plain: 2 ** 21 + 1 }) },
    ],
    [
      "with more segments than allowed",
      { ops: [{ new: A }], change: (header) => Object.assign(header, { segments: 4097 }) },
    ],
    [
      "that say less than they bring",
      { ops: [{ new: A }, { new: B }], change: (header) => Object.assign(header, { count: 1 }) },
    ],
    [
      "that bring contents which no operation takes",
      { ops: [{ literal: A }], change: (_, columns) => void columns.splice(COLUMN.CONTENTS, 1, B) },
    ],
    [
      "that bring too few contents",
      { ops: [{ new: A }, { new: B }], change: (_, columns) => void columns.splice(COLUMN.CONTENTS, 1, A) },
    ],
    [
      "that name digests which no operation takes",
      { ops: [{ new: A }], change: (_, columns) => void columns.splice(COLUMN.DIGESTS, 1, Buffer.alloc(32)) },
    ],
    ["that stand for nothing", { ops: [] }],
  ];

  test.each(wrong)("%s are refused", async (_, made) => {
    const { peer, open, batch, refused } = await meet();
    await open(1);
    await peer.expect(FRAME.CREDIT);
    await batch(made);
    await refused();
  });

  const ops =
    (write: (writer: OpWriter) => void): NonNullable<HandMade["change"]> =>
    (header, columns) => {
      const writer = new OpWriter(10_000);
      writer.reset(0);
      write(writer);
      writer.finish();
      columns[COLUMN.OPS] = Buffer.from(writer.ops);
      columns[COLUMN.ARGUMENTS] = Buffer.from(writer.args);
      Object.assign(header, { segments: 4096 });
    };
  const repeat = (times: number, act: () => void) => {
    for (let i = 0; i < times; i++) act();
  };
  test.each<[string, NonNullable<HandMade["change"]>]>([
    [
      "runs and literals that are more than a batch may have",
      ops((writer) => {
        writer.content(OP.NEW);
        repeat(510, () => writer.ref(0));
        repeat(4090, () => writer.literal(1));
      }),
    ],
    ["zeros without end", ops((writer) => repeat(4096, () => writer.zero(2 ** 53 - 1)))],
    ["literals without end", ops((writer) => repeat(4096, () => writer.literal(2 ** 53 - 1)))],
    ["a run without end", ops((writer) => repeat(5000, () => writer.content(OP.NEW)))],
    ["an unknown operation", (_, columns) => void columns.splice(COLUMN.OPS, 1, Buffer.of(15))],
    ["operations that lack arguments", (_, columns) => void columns.splice(COLUMN.ARGUMENTS, 1)],
  ])("with %s are refused", async (_, change) => {
    const { peer, open, batch, refused } = await meet();
    await open(1);
    await peer.expect(FRAME.CREDIT);
    await batch({ ops: [{ new: A }], change });
    await refused();
  });

  test("are refused where they refer to what is forgotten", async () => {
    for (const op of [
      { ref: 0, of: A },
      { delta: 0, xor: A, of: B },
    ]) {
      const { peer, open, batch, refused } = await meet();
      await open(1);
      await peer.expect(FRAME.CREDIT);
      const one = { ops: [{ new: A }, { new: B }] };
      await batch(one);
      await batch({ first: 2, forget: 1, previous: handMade(one).digest, ops: [op] });
      await refused(/forgotten/);
    }
  });

  test("are refused where they take back what was forgotten, or keep more than was agreed on", async () => {
    const pages = Array.from({ length: 101 }, (_, i) => ({ new: noise(i) }));
    for (const [firstForget, secondForget] of [
      [0, 0],
      [50, 49],
    ]) {
      const { peer, open, batch, refused } = await meet();
      await open(1);
      await peer.expect(FRAME.CREDIT);
      const one = { ops: pages };
      await batch(one);
      const two = {
        first: 101,
        forget: firstForget!,
        previous: handMade(one).digest,
        ops: [{ ref: 100, of: noise(100) }],
      };
      await batch(two);
      const last = { first: 101, forget: secondForget!, previous: handMade(two).digest, ops: two.ops };
      await batch(last);
      await refused();
    }
  });

  test("are refused beyond their stream's credit", async () => {
    const stuck = Promise.withResolvers<void>();
    const { peer, open, batch, refused } = await meet({ target: memoryTarget(() => ({ write: () => stuck.promise })) });
    await open(1);
    const { total } = decodeCredit((await peer.expect(FRAME.CREDIT)).payload);
    const page = { ops: [{ zero: 4096 }, { new: A }] };
    await batch(page);
    let { digest } = handMade(page);
    for (let spent = 5000; spent < total; spent += 256 * 4096) {
      const made = { first: 1, previous: digest, ops: Array.from({ length: 256 }, () => ({ ref: 0, of: A })) };
      await batch(made);
      digest = handMade(made).digest;
    }
    setTimeout(stuck.resolve, 50);
    await refused(/credit/);
  });

  test("are refused in any number while others wait, however small", async () => {
    const { peer, open, batch, refused } = await meet();
    await open(1);
    const { total } = decodeCredit((await peer.expect(FRAME.CREDIT)).payload);
    await batch({ ops: [{ known: A }] });
    await within(peer.expect(FRAME.WANT));
    for (let i = 0; i < total / 4096; i++) await batch({ first: 1, ops: [{ literal: Buffer.from("x") }] });
    await refused(/credit/);
  });

  test("are refused where their stream would be longer than 2^53 - 1", async () => {
    const { peer, open, batch, refused } = await meet({ target: memoryTarget(() => ({ zeros: async () => {} })) });
    await open(1);
    await peer.expect(FRAME.CREDIT);
    const most = { ops: [{ zero: 2 ** 53 - 1 }] };
    await batch(most);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(peer.got.some(({ type }) => type === FRAME.ABORT)).toBe(false);
    await batch({ previous: handMade(most).digest, ops: [{ zero: 1 }] });
    await refused(/too long/);
  });

  test.each([
    ["literals", COLUMN.LITERALS, 2 << 20],
    ["contents", COLUMN.CONTENTS, 1 << 20],
    ["stored contents", COLUMN.STORED, 1 << 20],
    ["digests", COLUMN.DIGESTS, 256 * 32],
    ["operations", COLUMN.OPS, 4096],
  ])("are refused where they hold more %s than they cost, also while others wait", async (_, column, length) => {
    const { peer, open, batch, refused } = await meet();
    await open(1);
    await peer.expect(FRAME.CREDIT);
    await batch({ ops: [{ known: A }] });
    await within(peer.expect(FRAME.WANT));
    const change = (_: unknown, columns: (Buffer | undefined)[]) =>
      void columns.splice(column, 1, Buffer.alloc(length));
    await batch({ first: 1, ops: [{ literal: Buffer.from("x") }], change });
    await refused(/columns/);
  });
});

describe("a source", () => {
  test("can't open a stream twice, in a wrong order, or in an unknown format", async () => {
    for (const act of [
      async (open: (id: number, name?: string, format?: string) => Promise<void>) => open(1).then(() => open(1)),
      async (open: (id: number) => Promise<void>) => open(2).then(() => open(1)),
      async (open: (id: number, name?: string, format?: string) => Promise<void>) => open(1, "a", "tape"),
    ]) {
      const { open, refused } = await meet();
      await act(open);
      await refused();
    }
  });

  test("has 128 streams open at most", async () => {
    const { peer, open, refused } = await meet();
    for (let i = 1; i <= 128; i++) await open(i);
    for (let i = 1; i <= 128; i++) await within(peer.expect(FRAME.CREDIT));
    await open(129);
    await refused(/more than 128 streams at once/);
  });

  test("has 128 streams written at once, whatever it gives up: further ones wait, without credit", async () => {
    let opened = 0;
    const gate = Promise.withResolvers<void>();
    const target = {
      async open() {
        opened++;
        await gate.promise;
        throw new ShrinkerError("input", "the disk is gone");
      },
    };
    const { peer, open } = await meet({ target });
    for (let i = 1; i <= 130; i++) {
      await open(i);
      const gone = { stream: i, code: "input", message: "it is gone" } as const;
      if (i <= 128) await peer.send(FRAME.RESET, encodeControl(Reset, gone));
    }
    while (opened < 128) await new Promise((resolve) => setTimeout(resolve, 1));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([opened, peer.got.some(({ type }) => type === FRAME.CREDIT)]).toEqual([128, false]);
    gate.resolve();
    while (opened < 130) await new Promise((resolve) => setTimeout(resolve, 1));
    await peer.connection.destroy();
  });

  test("has 2^31 - 1 streams in all", async () => {
    const last = 2 ** 31 - 1;
    const { peer, open, refused } = await meet();
    await open(last);
    expect(decodeCredit((await within(peer.expect(FRAME.CREDIT))).payload).stream).toBe(last);
    await open(last + 1);
    await refused(/opens stream 2147483648/);
  });

  test("has 16384 streams that are no connections", async () => {
    const { peer, open, refused } = await meet();
    for (let i = 1; i <= 16_384; i++) {
      await open(i);
      await peer.send(FRAME.RESET, encodeControl(Reset, { stream: i, code: "input", message: "it is gone" }));
    }
    await open(16_385);
    await refused(/more than 16384 streams that are no connections/);
  }, 20_000);

  test("has credit for a third of what other streams have left of 64 MiB, and for at least 1 MiB", async () => {
    const { peer, open } = await meet();
    let left = 64 << 20;
    for (let i = 1; i <= 20; i++) {
      await open(i);
      const { stream, total } = decodeCredit((await within(peer.expect(FRAME.CREDIT))).payload);
      const third = Math.max(1 << 20, Math.floor(left / 3));
      expect([stream, total]).toEqual([i, third]);
      left -= third;
    }
    await peer.connection.destroy();
  });

  test("may open any number of streams one after another, whatever became of those before", async () => {
    const { peer, open, running } = await meet();
    for (let i = 1; i <= 300; i++) {
      await open(i);
      await peer.send(FRAME.RESET, encodeControl(Reset, { stream: i, code: "input", message: "it is gone" }));
    }
    await peer.send(FRAME.DONE, Buffer.from([0x81, 0xa7, ...Buffer.from("streams"), 1]));
    await within(peer.expect(FRAME.DONE));
    await peer.connection.end();
    const { streams } = await within(running);
    expect(streams!.map(({ error }) => error?.code)).toEqual(new Array(300).fill("input"));
  });

  test("can't close what is not open, nor end with what is", async () => {
    const { peer, refused } = await meet();
    await peer.send(FRAME.CLOSE, encodeControl(Close, { stream: 1, length: 0, digest: Buffer.alloc(32) }));
    await refused();
    const second = await meet();
    await second.open(1);
    await second.peer.send(FRAME.DONE, Buffer.from([0x81, 0xa7, ...Buffer.from("streams"), 1]));
    const reset = decodeControl(Reset, (await within(second.peer.expect(FRAME.RESET))).payload);
    expect(reset).toMatchObject({ stream: 1, code: "integrity" });
    await second.peer.connection.end();
    const { streams } = await within(second.running);
    expect(streams![0]!.error?.code).toBe("integrity");
    expect(second.files.get("s1").ends).toEqual(["abort"]);
  });

  test.each([FRAME.HELLO, FRAME.WELCOME, FRAME.CREDIT, FRAME.WANT, FRAME.RESOLVED, FRAME.LANDED, 77])(
    "can't send a frame of type %d",
    async (type) => {
      const { peer, refused } = await meet();
      await peer.send(type, Buffer.alloc(12));
      await refused();
    },
  );

  test("that goes away in the middle of a frame is a broken link", async () => {
    const { peer, running } = await meet();
    await peer.connection.write([Buffer.alloc(7)]);
    await peer.connection.end();
    expect((await within(running)).error.code).toBe("link");
  });

  test("that lies about a stream's length or digest loses the stream alone", async () => {
    for (const change of [{ length: 4095 }, { digest: Buffer.alloc(32) }, { sha256: Buffer.alloc(32) }]) {
      const { peer, files, open, batch, running } = await meet();
      const made = { ops: [{ new: A }] };
      await open(1);
      await peer.expect(FRAME.CREDIT);
      await batch(made);
      const close = { stream: 1, length: 4096, digest: handMade(made).digest, ...change };
      await peer.send(FRAME.CLOSE, encodeControl(Close, close));
      const reset = decodeControl(Reset, (await within(peer.expect(FRAME.RESET))).payload);
      expect(reset.code).toBe("integrity");
      await peer.send(FRAME.DONE, Buffer.from([0x81, 0xa7, ...Buffer.from("streams"), 1]));
      await within(peer.expect(FRAME.DONE));
      await peer.connection.end();
      expect((await within(running)).streams![0]!.error?.code).toBe("integrity");
      expect(files.get("s1").ends).toEqual(["abort"]);
    }
  });
});

describe("contents that were sent by digest", () => {
  const wanting = async (options: Receiving = {}) => {
    const met = await meet(options);
    await met.open(1);
    await met.peer.expect(FRAME.CREDIT);
    await met.batch({ ops: [{ known: A }, { known: B }] });
    return met;
  };
  const answer = (number: number, page: Buffer) => Buffer.concat([encodeNumber(number), page]);

  test("are asked for once each, and told to be there", async () => {
    const { peer } = await wanting();
    expect(decodeNumber((await within(peer.expect(FRAME.WANT))).payload)).toBe(0);
    expect(decodeNumber((await within(peer.expect(FRAME.WANT))).payload)).toBe(1);
    await peer.send(FRAME.CONTENT, answer(1, B));
    await peer.send(FRAME.CONTENT, answer(0, A));
    expect(decodeNumber((await within(peer.expect(FRAME.RESOLVED))).payload)).toBe(2);
    expect(peer.got.some(({ type }) => type === FRAME.WANT)).toBe(false);
    await peer.connection.destroy();
  });

  test("are refused where they are others", async () => {
    const { peer, refused } = await wanting();
    await within(peer.expect(FRAME.WANT));
    await peer.send(FRAME.CONTENT, answer(0, B));
    await refused(/differs from the digest/);
  });

  test("are refused where nobody asked for them, or has them already", async () => {
    for (const numbers of [[2], [0, 0]]) {
      const { peer, refused } = await wanting();
      await within(peer.expect(FRAME.WANT));
      for (const number of numbers) await peer.send(FRAME.CONTENT, answer(number, A));
      await refused(/not asked for/);
    }
  });

  test("are not asked for where a broker has them, unless it has others", async () => {
    const broker = (pages: (Buffer | undefined)[]): ContentBroker => ({
      name: "test",
      async fetch(_, count, found, target) {
        for (let i = 0; i < count; i++) {
          if (found[i] !== 0 || !pages[i]) continue;
          target.set(pages[i]!, i * 4096);
          found[i] = 1;
        }
      },
    });
    const both = await wanting({ openSite: siteOf([broker([text(1), undefined]), broker([A, B])]) });
    expect(decodeNumber((await within(both.peer.expect(FRAME.RESOLVED))).payload)).toBe(2);
    expect(both.peer.got.some(({ type }) => type === FRAME.WANT)).toBe(false);
    await both.peer.connection.destroy();
    const one = await wanting({ openSite: siteOf([broker([A, A])]) });
    expect(decodeNumber((await within(one.peer.expect(FRAME.WANT))).payload)).toBe(1);
    await one.peer.connection.destroy();
  });
});
