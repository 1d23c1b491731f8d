// Peers made by hand, against each end of a tunnel. What breaks a stream leaves the session alone; what breaks the protocol ends it.
import { describe, expect, test } from "bun:test";
import { acceptSession } from "../../../core/engine/destination-session.ts";
import { openSession } from "../../../core/engine/source-session.ts";
import type { ShrinkerError } from "../../../core/errors.ts";
import type { Connection } from "../../../core/transport/transport.ts";
import { TunnelEntrance } from "../../../core/tunnel/entrance.ts";
import { exitTarget } from "../../../core/tunnel/exit.ts";
import {
  Abort,
  Close,
  decodeControl,
  encodeControl,
  encodeCredit,
  encodeNumber,
  Hello,
  Landed,
  Open,
  Reset,
} from "../../../core/wire/control.ts";
import { frameHeader, preface } from "../../../core/wire/frame.ts";
import { FRAME, RETURN_STREAMS } from "../../../core/wire/numbers.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { destinationOptions, memoryTarget, sourceOptions, within } from "../../support/session.ts";
import { HandPeer, handMade } from "../engine/wire.ts";
import { endOf, RETURNS } from "./tunnels.ts";

type Opening = Partial<Parameters<typeof encodeControl<typeof Open>>[1]>;
const FIRST = Buffer.alloc(32);
const opening = (stream: number, more: Opening = {}) =>
  encodeControl(Open, { stream, name: `s${stream}`, format: "bytes", ...more });
const closing = (stream: number) => encodeControl(Close, { stream, length: 0, digest: FIRST });

/** Some frames to one end, and what becomes of its session. */
function exchange(peer: HandPeer, running: Promise<unknown>) {
  const ended = running.then(
    () => undefined,
    (error) => error as ShrinkerError,
  );
  return {
    peer,
    /** The next stream that is given up, and why. */
    async reset() {
      return decodeControl(Reset, (await within(peer.expect(FRAME.RESET), "answer")).payload);
    },
    /** The session has ended for breaking the protocol, and the peer was told. */
    async refused(message: RegExp) {
      const error = await within(ended);
      expect(error).toMatchObject({ code: "integrity" });
      expect(error?.message).toMatch(message);
      const abort = decodeControl(Abort, (await within(peer.expect(FRAME.ABORT))).payload);
      expect(abort).toEqual({ code: "integrity", message: error!.message });
    },
    ended,
  };
}

/** A destination with the service `a`, which may never answer, and whose source is made by hand. */
async function meetExit({
  returns = RETURNS,
  hangs = false,
}: {
  returns?: typeof RETURNS | null;
  hangs?: boolean;
} = {}) {
  const [near, far] = memoryPair();
  const peer = new HandPeer(near);
  const services: Connection[] = [];
  const dial = async (signal: AbortSignal) => {
    if (hangs) await new Promise((_, reject) => signal.addEventListener("abort", reject));
    const [here, there] = memoryPair("memory:a");
    services.push(there);
    return here;
  };
  let session: Awaited<ReturnType<typeof acceptSession>> | undefined;
  const files = memoryTarget();
  const target = exitTarget({
    services: (name) => (name === "a" ? dial : undefined),
    sender: () => session?.sender,
    others: files,
  });
  const accepting = acceptSession(far, { ...destinationOptions, target, returns: RETURNS });
  await peer.hello(returns === null ? undefined : { returns });
  session = await accepting;
  await peer.expect(FRAME.WELCOME);
  const open = (stream: number, more?: Opening) => peer.send(FRAME.OPEN, opening(stream, more));
  return { ...exchange(peer, session.run()), services, files, open };
}

/** Connections of a session: as docs/limits.md has it. */
const MAX_STREAMS = 128;

describe("at the exit, a source", () => {
  test("that opens half a connection gets none, and no file either", async () => {
    const { peer, reset, open, files, services, ended } = await meetExit();
    await open(1, { connection: 1 });
    await open(2, { service: "a" });
    for (const stream of [1, 2]) expect(await reset()).toMatchObject({ stream, code: "integrity" });
    await open(3, { connection: 1, service: "a" });
    const back = decodeControl(Open, (await within(peer.expect(FRAME.OPEN))).payload);
    expect(back).toMatchObject({ stream: RETURN_STREAMS, connection: 1 });
    expect(back.service).toBeUndefined();
    expect([services.length, files.all.length]).toEqual([1, 0]);
    await peer.connection.destroy();
    await within(ended);
  });

  test("that has offered no way back can't open connections at all", async () => {
    const { refused, open, services } = await meetExit({ returns: null });
    await open(1, { connection: 1, service: "a" });
    await refused(/opens a connection, and none was offered/);
    expect(services.length).toBe(0);
  });

  test("that opens a connection twice gets it once", async () => {
    const { peer, reset, open, services, ended } = await meetExit();
    await open(1, { connection: 7, service: "a" });
    await within(peer.expect(FRAME.OPEN));
    await open(2, { connection: 7, service: "a" });
    const { stream, message } = await reset();
    expect(stream).toBe(2);
    expect(message).toMatch(/connection 7 again/);
    expect(services.length).toBe(1);
    // The end of the session is the end of what it had.
    await peer.connection.destroy();
    await within(ended);
    await expect(services[0]!.write([FIRST])).rejects.toThrow(/dropped/);
  });

  test("that names a service which isn't offered is told so", async () => {
    const { reset, open, peer, ended } = await meetExit();
    await open(1, { connection: 1, service: "b" });
    const { code, message } = await reset();
    expect(code).toBe("refused");
    expect(message).toContain('no service "b"');
    // It may have said all by the time it hears that.
    await peer.send(FRAME.CLOSE, closing(1));
    await open(2, { connection: 1, service: "a" });
    await within(peer.expect(FRAME.OPEN));
    await peer.connection.destroy();
    await within(ended);
  });

  test("can't hold more connections than streams by ending its half of them", async () => {
    const { peer, reset, open, services, ended } = await meetExit();
    for (let i = 1; i <= MAX_STREAMS; i++) {
      await open(i, { connection: i, service: "a" });
      await within(peer.expect(FRAME.OPEN));
      await peer.send(FRAME.CLOSE, closing(i));
    }
    await open(MAX_STREAMS + 1, { connection: MAX_STREAMS + 1, service: "a" });
    expect(await reset()).toMatchObject({ stream: MAX_STREAMS + 1, code: "refused" });
    // One that ends makes room.
    await peer.send(FRAME.CREDIT, encodeCredit(RETURN_STREAMS, 1 << 20));
    await services[0]!.end();
    await within(peer.expect(FRAME.CLOSE));
    await peer.send(FRAME.LANDED, encodeControl(Landed, { stream: RETURN_STREAMS }));
    await within(endOf(services[0]!));
    await open(MAX_STREAMS + 2, { connection: MAX_STREAMS + 2, service: "a" });
    await within(peer.expect(FRAME.OPEN));
    await peer.connection.destroy();
    await within(ended);
  });

  test("has 1024 connections that have not ended, however much of them it ends", async () => {
    const { peer, open, refused } = await meetExit({ hangs: true });
    for (let i = 1; i <= 1024; i++) {
      await open(i, { connection: i, service: "a" });
      await peer.send(FRAME.CLOSE, closing(i));
    }
    await open(1025, { connection: 1025, service: "a" });
    await refused(/more than 1024 connections that have not ended/);
  });

  test("is forgotten what it let fail long ago", async () => {
    const { peer, open, refused } = await meetExit();
    const failing = 2100;
    for (let i = 1; i <= failing; i++) await open(i, { connection: i, service: "b" });
    const told = () => peer.got.filter(({ type }) => type === FRAME.RESET).length;
    while (told() < failing) await new Promise((resolve) => setTimeout(resolve, 5));
    // The last 2048 are not.
    for (const stream of [failing, failing - 2047, failing - 2048]) await peer.send(FRAME.CLOSE, closing(stream));
    await refused(/closes stream 52, which is not open/);
  });

  test("that reads no answers is not given any number of them", async () => {
    const [near, far] = memoryPair();
    const target = exitTarget({ services: () => undefined, sender: () => undefined, others: memoryTarget() });
    const accepting = acceptSession(far, { ...destinationOptions, target, returns: RETURNS });
    const hello = { session: Buffer.alloc(16), domain: "test", window: 20, log: 4096, software: "", returns: RETURNS };
    await near.write([preface()]);
    let sequence = 0;
    const say = (type: number, payload: Uint8Array) => near.write([frameHeader(type, sequence++, [payload]), payload]);
    await say(FRAME.HELLO, encodeControl(Hello, hello));
    const running = (await accepting).run().catch((error) => error as Error);
    const flood = (async () => {
      for (let i = 1; ; i++) await say(FRAME.OPEN, opening(i, { connection: i, service: "a" }));
    })().catch((error) => error as Error);
    expect(`${await within(running)}`).toMatch(/more than 1024 connections that have not ended/);
    expect(await within(flood)).toBeInstanceOf(Error);
  });

  test.each([
    ["TELL where nobody listens", FRAME.TELL, FIRST, /type 12 where none is due/],
    ["WANT of what was not sent by digest", FRAME.WANT, encodeNumber(0), /asks for content 0/],
    ["WELCOME", FRAME.WELCOME, FIRST, /where none is due/],
    ["streams in the destination's numbers", FRAME.OPEN, opening(RETURN_STREAMS), /opens stream 2147483648/],
  ] as const)("ends its session by %s", async (_, type, payload, message) => {
    const { peer, refused, open, services } = await meetExit();
    await open(1, { connection: 1, service: "a" });
    await within(peer.expect(FRAME.OPEN));
    await peer.send(type, payload);
    await refused(message);
    await expect(services[0]!.write([FIRST])).rejects.toThrow(/dropped/);
  });

  test("may answer for streams that are not there", async () => {
    const { peer, open, ended } = await meetExit();
    const stream = RETURN_STREAMS + 9;
    await peer.send(FRAME.CREDIT, encodeCredit(stream, 1 << 20));
    await peer.send(FRAME.LANDED, encodeControl(Landed, { stream }));
    await peer.send(FRAME.RESET, encodeControl(Reset, { stream, code: "input", message: "" }));
    await open(1, { connection: 1, service: "a" });
    await within(peer.expect(FRAME.OPEN));
    await peer.connection.destroy();
    await within(ended);
  });
});

/** A source with one connection to the service `a`, whose destination is made by hand. */
async function meetEntrance() {
  const [near, far] = memoryPair();
  const peer = new HandPeer(far);
  const entrance = new TunnelEntrance();
  const opening = openSession(near, { ...sourceOptions, returns: RETURNS, target: entrance.target });
  const hello = decodeControl(Hello, (await peer.expect(FRAME.HELLO)).payload);
  expect(hello.returns).toEqual(RETURNS);
  await peer.welcome(hello.session, { returns: RETURNS });
  const session = await opening;
  const [client, local] = memoryPair("memory:client");
  const carried = entrance.carry(session.sender, local, { service: "a", format: "bytes" });
  carried.catch(() => {});
  const opened = decodeControl(Open, (await within(peer.expect(FRAME.OPEN))).payload);
  expect(opened).toMatchObject({ stream: 1, connection: 1, service: "a" });
  const running = session.failed.finally(() => session.abort(new Error("over")));
  return { ...exchange(peer, running), session, client, carried, entrance };
}

describe("at the entrance, a destination", () => {
  test("that answers for connections which are not there is refused, and the others go on", async () => {
    const { peer, reset, client, carried, session } = await meetEntrance();
    await peer.send(FRAME.OPEN, opening(RETURN_STREAMS, { connection: 99 }));
    await peer.send(FRAME.OPEN, opening(RETURN_STREAMS + 1));
    await peer.send(FRAME.OPEN, opening(RETURN_STREAMS + 2, { connection: 1 }));
    await peer.send(FRAME.OPEN, opening(RETURN_STREAMS + 5, { connection: 1 }));
    for (const more of [0, 1, 5])
      expect(await reset()).toMatchObject({ stream: RETURN_STREAMS + more, code: "refused" });
    const { payload, digest } = handMade({ stream: RETURN_STREAMS + 2, ops: [{ literal: Buffer.from("hello") }] });
    await within(peer.expect(FRAME.CREDIT));
    await peer.send(FRAME.BATCH, payload);
    const close = { stream: RETURN_STREAMS + 2, length: 5, digest };
    await peer.send(FRAME.CLOSE, encodeControl(Close, close));
    await within(peer.expect(FRAME.LANDED));
    await client.end();
    await peer.send(FRAME.CREDIT, encodeCredit(1, 1 << 20));
    await within(peer.expect(FRAME.CLOSE));
    await peer.send(FRAME.LANDED, encodeControl(Landed, { stream: 1 }));
    await within(carried);
    const { value } = await client.input[Symbol.asyncIterator]().next();
    expect(`${Buffer.from(value!)}`).toBe("hello");
    await within(session.abort(new Error("over")));
  });

  test.each([
    ["TELL where nobody listens", FRAME.TELL, FIRST, /type 12 where none is due/],
    ["a stream in the source's numbers", FRAME.OPEN, opening(2, { connection: 1 }), /opens stream 2/],
    ["batches of no stream", FRAME.BATCH, handMade({ stream: 5, ops: [{ zero: 1 }] }).payload, /not open/],
    ["CONTENT that nobody asked for", FRAME.CONTENT, Buffer.alloc(8 + 4096), /./],
    ["SUMMARIZE", FRAME.SUMMARIZE, FIRST, /where none is due/],
  ] as const)("ends its session by %s", async (_, type, payload, message) => {
    const { peer, refused, client, carried, entrance } = await meetEntrance();
    await peer.send(type, payload);
    await refused(message);
    await expect(within(carried)).rejects.toThrow(message);
    expect(await within(endOf(client))).toBeInstanceOf(Error);
    expect(entrance.size).toBe(0);
  });

  test("that grants a larger window than was offered ends its session", async () => {
    const [near, far] = memoryPair();
    const peer = new HandPeer(far);
    const opening = openSession(near, { ...sourceOptions, returns: RETURNS });
    const hello = decodeControl(Hello, (await peer.expect(FRAME.HELLO)).payload);
    await peer.welcome(hello.session, { returns: { ...RETURNS, log: RETURNS.log + 1 } });
    await exchange(peer, opening).refused(/another session/);
  });
});
