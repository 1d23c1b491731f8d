import { describe, expect, test } from "bun:test";
import { fixedCodec } from "../../../core/engine/codec-policy.ts";
import { ShrinkerError } from "../../../core/errors.ts";
import type { SiteIndex } from "../../../core/index/site-index.ts";
import { decodeBatch } from "../../../core/wire/batch.ts";
import {
  Abort,
  decodeControl,
  encodeControl,
  encodeCredit,
  encodeNumber,
  Hello,
  Landed,
  Open,
  Reset,
} from "../../../core/wire/control.ts";
import { BATCH_COST, FRAME, SEGMENT_COST } from "../../../core/wire/numbers.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { known, type Sending, send, source, within } from "../../support/session.ts";
import { until } from "../../transports/helpers.ts";
import { noise } from "./contents.ts";
import { HandPeer } from "./wire.ts";

const done = Buffer.from([0x81, 0xa7, ...Buffer.from("streams"), 1]);
const everything: SiteIndex = {
  async lookup(_, count, held) {
    held.fill(1, 0, count);
  },
  async insert() {},
  async close() {},
};

/** A source whose destination is made by hand. */
async function meet(pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>, options: Sending = {}) {
  const [near, far] = memoryPair();
  const peer = new HandPeer(far);
  const sending = send(near, [source("a", "raw", pieces)], { codec: fixedCodec("none"), ...options }).then(
    ({ outcomes }) => ({ outcomes, error: undefined }),
    (error) => ({ outcomes: undefined, error }),
  );
  const hello = decodeControl(Hello, (await peer.expect(FRAME.HELLO)).payload);
  await peer.welcome(hello.session);
  decodeControl(Open, (await peer.expect(FRAME.OPEN)).payload);
  /** The session has failed for a typed reason, and the destination was told. */
  const refused = async (message: RegExp) => {
    const { error } = await within(sending);
    expect(error).toBeInstanceOf(ShrinkerError);
    expect(error.code).toBe("integrity");
    expect(error.message).toMatch(message);
    const abort = decodeControl(Abort, (await within(peer.expect(FRAME.ABORT))).payload);
    expect(abort).toEqual({ code: "integrity", message: error.message });
  };
  return { peer, sending, refused };
}

function* pages(count: number): Generator<Uint8Array> {
  for (let i = 0; i < count; i++) yield noise(i);
}

async function* waiting(): AsyncGenerator<Uint8Array> {
  yield noise(1);
  await new Promise((resolve) => setTimeout(resolve, 60));
  yield noise(2);
}

const credit = (total: number) => encodeCredit(1, total);

describe("a source sends", () => {
  test("nothing without credit, and never more than it has", async () => {
    const { peer, sending } = await meet(pages(2000));
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(peer.got.some(({ type }) => type === FRAME.BATCH)).toBe(false);
    let granted = 0;
    let spent = 0;
    for (let round = 0; round < 5; round++) {
      granted += 600_000;
      await peer.send(FRAME.CREDIT, credit(granted));
      await until(() => peer.got.some(({ type }) => type === FRAME.BATCH), 10_000);
      // Whatever came with it, and should not.
      await new Promise((resolve) => setTimeout(resolve, 30));
      for (const frame of peer.got.splice(0)) {
        if (frame.type !== FRAME.BATCH) continue;
        const { plain, segments } = decodeBatch(frame.payload).header;
        spent += BATCH_COST + plain + segments * SEGMENT_COST;
        const acknowledge = Buffer.alloc(4);
        acknowledge.writeUInt32LE(frame.sequence);
        await peer.send(FRAME.ACK, acknowledge);
      }
      expect(spent).toBeLessThanOrEqual(granted);
    }
    expect(spent).toBeGreaterThan(granted - 400_000);
    await peer.connection.destroy();
    await within(sending);
  });

  test("nothing with less credit than 256 KiB, and meanwhile takes 4 MiB of its input", async () => {
    let taken = 0;
    const counted = function* () {
      for (const page of pages(2000)) {
        taken += page.length;
        yield page;
      }
    };
    const { peer, sending } = await meet(counted());
    const least = 256 << 10;
    await peer.send(FRAME.CREDIT, credit(least - 1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(peer.got.some(({ type }) => type === FRAME.BATCH)).toBe(false);
    expect(taken).toBeGreaterThanOrEqual(4 << 20);
    expect(taken).toBeLessThanOrEqual((4 << 20) + 4096);
    await peer.send(FRAME.CREDIT, credit(least));
    await within(peer.expect(FRAME.BATCH));
    await peer.connection.destroy();
    await within(sending);
  });

  test("one batch to who acknowledges nothing, and makes six more of what it reads", async () => {
    let taken = 0;
    const counted = function* () {
      for (const page of pages(4000)) {
        taken += page.length;
        yield page;
      }
    };
    const { peer, sending } = await meet(counted());
    await peer.send(FRAME.CREDIT, credit(64 << 20));
    const { plain } = decodeBatch((await within(peer.expect(FRAME.BATCH))).payload).header;
    while (taken < (4 << 20) + 7 * plain) await within(new Promise((resolve) => setTimeout(resolve, 5)));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(peer.got.some(({ type }) => type === FRAME.BATCH)).toBe(false);
    expect(Math.round((taken - (4 << 20)) / plain)).toBe(7);
    await peer.connection.destroy();
    await within(sending);
  });

  test("nothing more of a stream that the destination has given up, and the others", async () => {
    const { peer, sending } = await meet(pages(2000));
    await peer.send(FRAME.CREDIT, credit(8 << 20));
    const reset = { stream: 1, code: "space" as const, message: "the disk\n\x1b[31mis full" };
    await peer.send(FRAME.RESET, encodeControl(Reset, reset));
    await within(peer.expect(FRAME.DONE));
    await peer.send(FRAME.DONE, done);
    await peer.connection.end();
    const { outcomes } = await within(sending);
    expect(outcomes![0]!.error).toMatchObject({ code: "space", message: "the disk [31mis full" });
  });
});

describe("a source refuses", () => {
  test.each([FRAME.HELLO, FRAME.OPEN, FRAME.CLOSE, FRAME.BATCH, FRAME.CONTENT, FRAME.WELCOME, 99])(
    "a frame of type %d",
    async (type) => {
      const { peer, refused } = await meet(waiting());
      await peer.send(type, Buffer.alloc(20));
      await refused(/where none is due/);
    },
  );

  test("that the session is over before it has sent everything", async () => {
    const { peer, refused } = await meet(waiting());
    await peer.send(FRAME.DONE, done);
    await peer.connection.end();
    await refused(/where none is due/);
  });

  test("that a stream has landed before all of it was sent: nobody waits for the rest", async () => {
    const { peer, refused } = await meet(pages(2000));
    await peer.send(FRAME.LANDED, encodeControl(Landed, { stream: 1 }));
    await refused(/before it was sent whole/);
  });

  test("that the session is over while a stream is in doubt", async () => {
    const { peer, sending } = await meet(pages(1));
    await peer.send(FRAME.CREDIT, credit(8 << 20));
    await within(peer.expect(FRAME.DONE));
    await peer.send(FRAME.DONE, done);
    await peer.connection.end();
    const { outcomes } = await within(sending);
    expect(outcomes![0]!.error?.code).toBe("integrity");
    expect(outcomes![0]!.error?.message).toMatch(/did not say what became/);
  });

  test("control frames of a wrong shape", async () => {
    for (const type of [FRAME.CREDIT, FRAME.WANT, FRAME.RESOLVED, FRAME.LANDED, FRAME.RESET, FRAME.ACK]) {
      const { peer, refused } = await meet(waiting());
      await peer.send(type, Buffer.alloc(5));
      await refused(/./);
    }
  });

  test("to give out contents that it has not named, or has given already", async () => {
    const { peer, refused } = await meet(waiting());
    await peer.send(FRAME.WANT, encodeNumber(0));
    await refused(/asks for content 0/);
    const named = await meet(pages(2), { site: known(everything) });
    await named.peer.send(FRAME.CREDIT, credit(8 << 20));
    await within(named.peer.expect(FRAME.BATCH));
    await named.peer.send(FRAME.WANT, encodeNumber(1));
    const { payload } = await within(named.peer.expect(FRAME.CONTENT));
    expect(Buffer.compare(payload, Buffer.concat([encodeNumber(1), noise(1)]))).toBe(0);
    await named.peer.send(FRAME.WANT, encodeNumber(1));
    await named.refused(/asked for before/);
  });

  test("to give out contents that the destination has said to hold", async () => {
    const { peer, refused } = await meet(pages(3), { site: known(everything) });
    await peer.send(FRAME.CREDIT, credit(8 << 20));
    await within(peer.expect(FRAME.BATCH));
    await peer.send(FRAME.RESOLVED, encodeNumber(2));
    await peer.send(FRAME.WANT, encodeNumber(2));
    await within(peer.expect(FRAME.CONTENT));
    await peer.send(FRAME.WANT, encodeNumber(0));
    await refused(/asks for content 0/);
  });
});

test("a destination that gives up is quoted", async () => {
  const { peer, sending } = await meet(waiting());
  await peer.send(FRAME.ABORT, encodeControl(Abort, { code: "space", message: "the disk is full\nfor good" }));
  await peer.connection.destroy();
  const { error } = await within(sending);
  expect(error).toMatchObject({ code: "space", message: "The other end gave up: the disk is full for good" });
});

test("a destination that gives up is quoted although it reads nothing any more", async () => {
  const { peer, sending } = await meet(pages(20_000));
  await peer.send(FRAME.CREDIT, credit(8 << 20));
  await within(peer.expect(FRAME.BATCH));
  await peer.send(FRAME.ABORT, encodeControl(Abort, { code: "space", message: "the disk is full" }));
  await peer.connection.destroy();
  const { error } = await within(sending);
  expect(error).toMatchObject({ code: "space", message: "The other end gave up: the disk is full" });
});

test("what a destination says of streams that are not there is not minded", async () => {
  const { peer, sending } = await meet(pages(1));
  await peer.send(FRAME.CREDIT, encodeCredit(77, 1 << 20));
  await peer.send(FRAME.LANDED, encodeControl(Landed, { stream: 77 }));
  await peer.send(FRAME.RESET, encodeControl(Reset, { stream: 77, code: "input", message: "" }));
  await peer.send(FRAME.CREDIT, credit(8 << 20));
  await within(peer.expect(FRAME.CLOSE));
  await peer.send(FRAME.LANDED, encodeControl(Landed, { stream: 1 }));
  await within(peer.expect(FRAME.DONE));
  await peer.send(FRAME.DONE, done);
  await peer.connection.end();
  expect((await within(sending)).outcomes![0]!.error).toBeUndefined();
});
