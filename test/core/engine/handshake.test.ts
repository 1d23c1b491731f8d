import { describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { acceptSession } from "../../../core/engine/destination-session.ts";
import { openSession } from "../../../core/engine/source-session.ts";
import { ShrinkerError } from "../../../core/errors.ts";
import { Abort, decodeControl, encodeControl, Hello } from "../../../core/wire/control.ts";
import { frameHeader, preface } from "../../../core/wire/frame.ts";
import { FRAME } from "../../../core/wire/numbers.ts";
import { memoryPair } from "../../../transports/memory.ts";
import {
  destinationOptions,
  memoryTarget,
  migrate,
  migrateBoth,
  source,
  sourceOptions,
  within,
} from "../../support/session.ts";
import { text } from "./contents.ts";
import { HandPeer } from "./wire.ts";

const times = { handshake: 60, ping: 10, dead: 60, farewell: 60 };
const target = memoryTarget();
const NO_ACK = Buffer.alloc(4);
const accept = (peer: ReturnType<typeof memoryPair>[1], options = {}) =>
  within(acceptSession(peer, { ...destinationOptions, target, ...options }), "handshake", 3000);
const open = (peer: ReturnType<typeof memoryPair>[0], options = {}) =>
  within(openSession(peer, { ...sourceOptions, ...options }), "handshake", 3000);

async function failure(promise: Promise<unknown>): Promise<ShrinkerError> {
  const error = await promise.then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  return error;
}

describe("a destination", () => {
  test.each([
    ["a login banner", Buffer.from("Welcome to Debian!\nLast login: today\n"), /Welcome to Debian/],
    ["an HTTP request", Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), /GET \/ HTTP/],
    ["noise", randomBytes(100), /does not speak/],
  ])("does not answer %s", async (_, bytes, message) => {
    const [near, far] = memoryPair();
    const accepting = failure(accept(far));
    await near.write([bytes]);
    const error = await accepting;
    expect(error.code).toBe("link");
    expect(error.message).toMatch(message as RegExp);
    let said = 0;
    try {
      for await (const piece of near.input) said += piece.length;
    } catch {}
    expect(said).toBe(0);
  });

  test("tells a shrinker of another release which one it is", async () => {
    const [near, far] = memoryPair();
    const accepting = failure(accept(far, { times }));
    await near.write([preface(2)]);
    expect((await accepting).code).toBe("refused");
    const parts: Uint8Array[] = [];
    try {
      for await (const piece of near.input) parts.push(piece);
    } catch {}
    expect(Buffer.compare(Buffer.concat(parts).subarray(0, 16), preface())).toBe(0);
  });

  test("refuses another domain, and says so", async () => {
    const { sent, received } = await migrateBoth([source("a", "raw", [])], { sending: { domain: "other" } });
    expect(sent).toMatchObject({ status: "rejected", reason: { code: "refused" } });
    expect(received).toMatchObject({ status: "rejected", reason: { code: "refused" } });
    expect((sent as PromiseRejectedResult).reason.message).toMatch(/"other"/);
  });

  test("takes any domain where it is only to look", async () => {
    const { files } = await migrate([source("a", "raw", [text(1)])], { receiving: { domain: undefined } });
    expect(Buffer.compare(files.get("a").bytes, text(1))).toBe(0);
  });

  test("refuses whom it does not admit", async () => {
    const admit = () => {
      throw new ShrinkerError("refused", "there are too many sessions");
    };
    const { sent } = await migrateBoth([source("a", "raw", [])], { receiving: { admit } });
    expect((sent as PromiseRejectedResult).reason).toMatchObject({ code: "refused" });
    expect((sent as PromiseRejectedResult).reason.message).toMatch(/there are too many sessions/);
  });

  test.each([
    ["no session", { session: Buffer.alloc(3) }],
    ["a window that is too large", { window: 28 }],
    ["a window that is too small", { window: 3 }],
    ["no domain", { domain: "" }],
    ["a log without contents", { log: 0 }],
    ["a log that is no number", { log: Number.NaN }],
  ])("refuses a HELLO with %s", async (_, change) => {
    const [near, far] = memoryPair();
    const accepting = failure(accept(far));
    const peer = new HandPeer(near);
    await peer.hello(change);
    expect((await accepting).code).toBe("integrity");
    await within(peer.expect(FRAME.ABORT));
  });

  test.each([FRAME.OPEN, FRAME.BATCH, FRAME.WELCOME, FRAME.ACK, FRAME.DONE, 99])(
    "refuses a frame of type %d before HELLO",
    async (type) => {
      const [near, far] = memoryPair();
      const accepting = failure(accept(far));
      const peer = new HandPeer(near);
      await peer.open();
      await peer.send(type, Buffer.alloc(100));
      expect((await accepting).code).toBe("integrity");
      await within(peer.expect(FRAME.ABORT));
    },
  );

  test("refuses a second HELLO", async () => {
    const [near, far] = memoryPair();
    const peer = new HandPeer(near);
    const accepting = accept(far);
    await peer.hello();
    const session = await accepting;
    const running = failure(session.run());
    const hello = { session: Buffer.alloc(16), domain: "test", window: 20, log: 1, software: "" };
    await peer.send(FRAME.HELLO, encodeControl(Hello, hello));
    expect((await within(running)).code).toBe("integrity");
    await within(peer.expect(FRAME.ABORT));
  });

  test("gives up on a peer that says nothing, little, or goes away", async () => {
    for (const bytes of [Buffer.alloc(0), preface().subarray(0, 9), preface()]) {
      const [near, far] = memoryPair();
      const accepting = failure(accept(far, { times }));
      await near.write([bytes]);
      const error = await accepting;
      expect(error.code).toBe("link");
      expect(error.message).toMatch(/did not answer/);
    }
    const [near, far] = memoryPair();
    const accepting = failure(accept(far));
    await near.end();
    expect((await accepting).code).toBe("link");
  });
});

describe("a source", () => {
  test.each([
    ["a larger window", { window: 21 }],
    ["a larger log", { log: 2 ** 40 }],
  ])("refuses a WELCOME with %s than it offered", async (_, change) => {
    const [near, far] = memoryPair();
    const opening = failure(open(near));
    const peer = new HandPeer(far);
    const hello = decodeControl(Hello, (await peer.expect(FRAME.HELLO)).payload);
    await peer.welcome(hello.session, change);
    expect((await opening).code).toBe("integrity");
    await within(peer.expect(FRAME.ABORT));
  });

  test("refuses the WELCOME of another session", async () => {
    const [near, far] = memoryPair();
    const opening = failure(open(near));
    const peer = new HandPeer(far);
    await peer.expect(FRAME.HELLO);
    await peer.welcome(Buffer.alloc(16, 9));
    expect((await opening).code).toBe("integrity");
  });

  test("quotes what speaks another protocol", async () => {
    const [near, far] = memoryPair();
    const opening = failure(open(near));
    await far.write([Buffer.from("sh: 1: shrinker: not found\n")]);
    await far.end();
    const error = await opening;
    expect(error.code).toBe("link");
    expect(error.message).toMatch(/shrinker: not found/);
  });

  test("gives up on a peer that says nothing", async () => {
    const [near] = memoryPair();
    expect((await failure(open(near, { times }))).message).toMatch(/did not answer/);
  });

  test("takes smaller windows and logs", async () => {
    const receiving = { windowLog: 20, logLimit: 10 };
    const { sent, received } = await migrate([source("a", "raw", [text(1)])], {
      sending: { windowLog: 22 },
      receiving,
    });
    expect(sent.session.agreement).toMatchObject({ windowLog: 20, logLimit: 10, domain: "test", software: "test" });
    expect(received.session.agreement).toMatchObject({ windowLog: 20, logLimit: 10 });
  });

  test("that was cancelled before does not begin", async () => {
    const [near, far] = memoryPair();
    const error = await failure(open(near, { signal: AbortSignal.abort() }));
    expect(error.code).toBe("cancelled");
    let said = 0;
    try {
      for await (const piece of far.input) said += piece.length;
    } catch {}
    expect(said).toBe(0);
  });
});

describe("a handshake has its time as a whole", () => {
  const opening = Buffer.concat([preface(), frameHeader(FRAME.PING, 0, [])]);
  /** Says `next` every 10 ms until nobody takes it any more. */
  async function drip(connection: ReturnType<typeof memoryPair>[0], next: (i: number) => Uint8Array): Promise<void> {
    try {
      for (let i = 0; ; i++) {
        await connection.write([next(i)]);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    } catch {}
  }
  test.each([
    ["a byte at a time", (i: number) => opening.subarray(i, i + 1)],
    ["signs of life for ever", (i: number) => (i === 0 ? preface() : frameHeader(FRAME.PING, i - 1, []))],
    [
      "acknowledgements for ever",
      (i: number) => (i === 0 ? preface() : Buffer.concat([frameHeader(FRAME.ACK, i - 1, [NO_ACK]), NO_ACK])),
    ],
  ])("for a peer that says %s, at either end", async (_, next) => {
    for (const end of [accept, open]) {
      const [near, far] = memoryPair();
      const dripping = drip(far, next);
      const since = performance.now();
      const error = await failure(end(near, { times }));
      expect([error.code, /did not answer/.test(error.message)]).toEqual(["link", true]);
      expect(performance.now() - since).toBeLessThan(1000);
      await dripping;
    }
  });
});

test("what gives up is told to the peer in its own words", async () => {
  const [near, far] = memoryPair();
  const peer = new HandPeer(near);
  const accepting = accept(far);
  await peer.hello();
  const running = failure((await accepting).run());
  await peer.send(FRAME.DONE, Buffer.from("garbage"));
  const error = await within(running);
  const { code, message } = decodeControl(Abort, (await within(peer.expect(FRAME.ABORT))).payload);
  expect({ code, message }).toEqual({ code: error.code, message: error.message });
});
