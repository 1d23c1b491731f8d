import { describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { LINK_TIMES } from "../../../core/engine/link-times.ts";
import { sendAll } from "../../../core/engine/migration.ts";
import { openSession } from "../../../core/engine/source-session.ts";
import { CancelledError, LinkError, ShrinkerError } from "../../../core/errors.ts";
import type { StreamSource } from "../../../core/machines/machine.ts";
import { parseAddress } from "../../../core/transport/transport.ts";
import { Abort, decodeControl, encodeControl, Hello, Resume, Resumed } from "../../../core/wire/control.ts";
import { FrameReader, frameHeader, preface } from "../../../core/wire/frame.ts";
import { FRAME, FRAME_HEADER_BYTES, PREFACE_BYTES } from "../../../core/wire/numbers.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { quic } from "../../../transports/quic.ts";
import { transports } from "../../../transports/registry.ts";
import { tcp } from "../../../transports/tcp.ts";
import { startDatagramWan } from "../../support/datagrams.ts";
import { cutAfter, type Fault, faulty, fragment, stall } from "../../support/faults.ts";
import { type Network, network, onlySession, quick } from "../../support/resuming.ts";
import { memoryTarget, migrate, type Sending, source, sourceOptions, within } from "../../support/session.ts";
import { noise, text } from "./contents.ts";
import { HandPeer } from "./wire.ts";

const never = new AbortController().signal;

/** So many pages that no codec makes smaller, and as many that most do. */
function pages(from: number, count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, i) => [noise(from + i), text(from + i)]).flat());
}

/** Three streams with contents in common: about 500 kB on the wire. */
function sources(): StreamSource[] {
  const shared = [pages(1, 20), pages(100, 15)];
  return [
    source("a", "raw", [...shared, pages(200, 20)]),
    source("b", "raw", [pages(300, 15), ...shared, 50_000, pages(400, 20)]),
    source("c", "bytes", [pages(500, 25)]),
  ];
}

/** Sends over a network, and says things on the way. */
async function over(net: Network, options: Sending = {}, words = 0, streams = sources()) {
  const redial = () => net.dial();
  const session = await openSession(await net.dial(), { ...sourceOptions, times: quick, redial, ...options });
  for (let i = 0; i < words; i++) void session.tell(Buffer.of(i)).catch(() => {});
  try {
    const outcomes = await sendAll(session, streams, true, { parallel: 3, signal: options.signal ?? never });
    return { outcomes, counters: session.sender.counters };
  } catch (error) {
    await session.abort(error as Error);
    throw error;
  }
}

function expectAll({ files }: Network, whole: Awaited<ReturnType<typeof migrate>>): void {
  for (const { info, bytes } of whole.files.all) {
    expect(Buffer.compare(files.get(info.name).bytes, bytes)).toBe(0);
    expect(files.get(info.name).ends).toEqual(["commit"]);
  }
}

/** Passes a direction on, and sees where it begins: the number of its first frame, and what a RESUMED says. */
function numbered() {
  const seen = {
    first: undefined as number | undefined,
    resumed: undefined as number | undefined,
    fault: (input: AsyncIterable<Uint8Array>) => pass(input),
  };
  async function* pass(input: AsyncIterable<Uint8Array>) {
    let head = Buffer.alloc(0);
    for await (const piece of input) {
      if (seen.first === undefined) {
        head = Buffer.concat([head, piece]);
        look();
      }
      yield piece;
    }
    function look(): void {
      for (let at = PREFACE_BYTES; head.length >= at + FRAME_HEADER_BYTES; ) {
        const [length, type] = [head.readUInt32LE(at), head.readUInt8(at + 4)];
        const end = at + FRAME_HEADER_BYTES + length;
        if (type !== FRAME.RESUME && type !== FRAME.RESUMED) {
          seen.first = head.readUInt32LE(at + 8);
          return;
        }
        if (head.length < end) return;
        if (type === FRAME.RESUMED)
          seen.resumed = decodeControl(Resumed, head.subarray(at + FRAME_HEADER_BYTES, end)).received;
        at = end;
      }
    }
  }
  return seen;
}

const words = 20;
const whole = await migrate(sources());

/** Bytes after which both ends have heard of each other's introduction. */
const HELLO = 400;

describe("a session over connections that are cut", () => {
  test("at any bytes of either direction, arrives as if it had one", async () => {
    const cut = fc.record({ up: fc.nat(400_000), down: fc.nat(800), seed: fc.nat(1000) });
    await fc.assert(
      fc.asyncProperty(fc.array(cut, { minLength: 1, maxLength: 8 }), async (cuts) => {
        const said: number[] = [];
        const net = network({
          receiving: { told: (payload) => void said.push(payload[0]!) },
          faults(number) {
            const at = cuts[number];
            if (!at) return {};
            const first = number === 0 ? HELLO : 0;
            return {
              up: [fragment(at.seed), cutAfter(first + at.up)],
              down: [cutAfter(first + at.down), fragment(at.seed + 1)],
            };
          },
        });
        const { counters } = await within(over(net, {}, words), "source");
        await onlySession(net);
        expectAll(net, whole);
        expect(said).toEqual(Array.from({ length: words }, (_, i) => i));
        const { zero, literal, deduplicated, fresh } = counters;
        expect([zero, literal, deduplicated, fresh]).toEqual(
          (({ zero, literal, deduplicated, fresh }) => [zero, literal, deduplicated, fresh])(whole.sent.counters),
        );
        expect(net.resumables.size).toBe(0);
      }),
      { numRuns: 12 },
    );
  }, 60_000);

  test("while very many streams land at once", async () => {
    const many = Array.from({ length: 1500 }, (_, i) => source(`s${i}`, "raw", [Buffer.from(`stream ${i}`)]));
    const landing = Promise.withResolvers<never>();
    landing.promise.catch(() => {});
    const cut: Fault = async function* (input) {
      const pieces = input[Symbol.asyncIterator]();
      for (;;) {
        const next = await Promise.race([pieces.next(), landing.promise]);
        if (next.done) return;
        yield next.value;
      }
    };
    // The link is lost when the first one gets its name, and made again when all have theirs.
    let named = 0;
    const target = memoryTarget(() => ({
      async commit() {
        if (named++ === 0) landing.reject(new LinkError("The test cut the connection"));
        await new Promise((resolve) => setTimeout(resolve, 20));
      },
    }));
    const net = network({
      target,
      receiving: { allOrNothing: true },
      faults: (number) => (number === 0 ? { down: [cut] } : number < 8 ? undefined : {}),
    });
    const { outcomes } = await within(over(net, {}, 0, many), "source");
    expect(outcomes.filter(({ error }) => error)).toEqual([]);
    await onlySession(net);
    expect(net.files.all.every(({ ends }) => ends.join() === "commit")).toBe(true);
  }, 20_000);

  test("over tcp", async () => {
    const closing = new AbortController();
    const listener = await tcp.listen(parseAddress("tcp://127.0.0.1:0", transports), {
      signal: closing.signal,
      insecure: true,
    });
    const to = parseAddress(listener.address, transports);
    const net = network({
      connect: async () =>
        Promise.all([tcp.dial(to, { signal: never, insecure: true }), listener.accept().then((far) => far!)]),
      faults: (number) => (number < 4 ? { up: [cutAfter(60_000 * (number + 1))], down: [cutAfter(1500)] } : {}),
    });
    const { outcomes } = await within(over(net));
    await onlySession(net);
    closing.abort();
    expect(outcomes.map(({ error }) => error)).toEqual([undefined, undefined, undefined]);
    expectAll(net, whole);
    expect(net.connections).toBeGreaterThan(2);
  });

  test("over quic, through a way that falls silent for both, and sends nothing again that has arrived", async () => {
    const [closing, options] = [new AbortController(), { signal: never, insecure: true }];
    const at = parseAddress("quic://127.0.0.1:0", transports);
    const listener = await quic.listen(at, { ...options, signal: closing.signal });
    const local = { host: "127.0.0.1", port: 0 };
    const to = { ...local, port: Number(/\d+$/.exec(listener.address)![0]) };
    const wan = await startDatagramWan({ listen: local, to, delay: 1, rate: 20e6 });
    const way = parseAddress(`quic://127.0.0.1:${wan.port}`, transports);
    // Three batches, of what no codec makes smaller.
    const bytes = Buffer.concat(Array.from({ length: 700 }, (_, i) => noise(1000 + i)));
    const seen: { up: ReturnType<typeof numbered>; down: ReturnType<typeof numbered> }[] = [];
    let cuts = 0;
    const cutting: Fault = async function* (input) {
      let left = 1.2e6;
      for await (const piece of input) {
        yield piece;
        left -= piece.length;
        if (left > 0 || cuts === 2) continue;
        wan.cut();
        cuts++;
        left = Infinity;
      }
    };
    // QUIC sends a datagram of its handshake that was lost again after a second.
    const times = { ...quick, resume: 10_000 };
    // Who dials may give up: what is accepted next is of the one after that.
    let accepting: ReturnType<typeof listener.accept> | undefined;
    const net = network({
      receiving: { times },
      async connect() {
        wan.mend();
        accepting ??= listener.accept();
        const [near, far] = await Promise.all([quic.dial(way, options), accepting]);
        accepting = undefined;
        return [near, faulty(far!, { input: [cutting] })];
      },
      faults() {
        const [up, down] = [numbered(), numbered()];
        seen.push({ up, down });
        return { up: [up.fault], down: [down.fault] };
      },
    });
    const { outcomes } = await within(over(net, { times }, 0, [source("big", "raw", [bytes])]));
    await onlySession(net);
    closing.abort();
    await wan.close();
    expect(outcomes.map(({ error }) => error)).toEqual([undefined]);
    expect(Buffer.compare(net.files.get("big").bytes, bytes)).toBe(0);
    expect(cuts).toBe(2);
    // More where the machine is so busy that a link seems dead.
    expect(net.connections).toBeGreaterThanOrEqual(3);
    const [first, ...others] = seen.filter(({ up }) => up.first !== undefined);
    const resumed = others.map(({ down }) => down.resumed!);
    // From where the destination said that it is, and something had arrived meanwhile.
    expect(others.map(({ up }) => up.first)).toEqual(resumed);
    expect(resumed[0]).toBeGreaterThan(first!.up.first!);
    expect(resumed.at(-1)).toBeGreaterThan(resumed[0]!);
  }, 30_000);

  test("at its end: who has said the last word waits until it is heard", async () => {
    // The destination's last frames are lost, however often.
    const hide: Fault = async function* (input) {
      const reader = new FrameReader(input, "test");
      await reader.preface();
      yield preface();
      for (let frame = await reader.next(); frame; frame = await reader.next()) {
        if (frame.type === FRAME.RESUMED) reader.expect(decodeControl(Resumed, frame.payload).received && due);
        if (frame.type === FRAME.DONE) return;
        if (frame.type !== FRAME.RESUMED) due = frame.sequence + 1;
        yield Buffer.concat([frameHeader(frame.type, frame.sequence, [frame.payload]), frame.payload]);
      }
    };
    let due = 0;
    const net = network({ faults: (number) => (number < 3 ? { down: [hide] } : {}) });
    await within(over(net));
    await onlySession(net);
    expectAll(net, whole);
    expect(net.connections).toBe(4);
  });
});

describe("a connection that falls silent", () => {
  test("is made again, also where the destination has not noticed", async () => {
    const silence = stall();
    // After the preface, WELCOME and one frame more, however fast the machine is.
    const silent: Fault = async function* (input) {
      let pieces = 0;
      for await (const piece of silence.fault(input)) {
        yield piece;
        if (++pieces === 3) silence.on();
      }
    };
    const net = network({
      receiving: { times: { ...quick, dead: 60_000 } },
      faults: (number) => (number === 0 ? { down: [silent] } : {}),
    });
    const states: string[] = [];
    await within(over(net, { onLink: (state, reason) => states.push(`${state} ${reason}`) }));
    await onlySession(net);
    silence.off();
    expectAll(net, whole);
    expect(net.connections).toBe(2);
    expect(states).toEqual([
      "reconnecting memory: has been silent for 0 s: check the link and run again",
      "connected ",
    ]);
  });
});

test.each([["down"], ["up"]] as const)(
  "an end that never comes %s ends a session in which all is said",
  async (way) => {
    const endless: Fault = async function* (input) {
      yield* input;
      await new Promise(() => {});
    };
    const net = network({ faults: () => ({ [way]: [endless] }) });
    await within(over(net), "source", 5000);
    await within(onlySession(net), "destination", 5000);
    expectAll(net, whole);
    expect(net.connections).toBe(1);
  },
);

/** What an end fails with. */
async function failure(promise: Promise<unknown>): Promise<ShrinkerError> {
  const error = await within(promise).then(
    () => undefined,
    (error) => error,
  );
  expect(error).toBeInstanceOf(ShrinkerError);
  return error;
}

describe("a session that can't go on", () => {
  const times = { ...quick, dead: 150, resume: 1000 };

  test("fails at both ends when the limit is reached, and says how long it was tried", async () => {
    const net = network({
      receiving: { times },
      faults: (number) => (number === 0 ? { up: [cutAfter(50_000)] } : undefined),
    });
    const sent = await failure(over(net, { times }));
    expect(sent.code).toBe("link");
    expect(sent.message).toMatch(
      /^Lost the connection to memory: and could not make it again within 1 s, in \d+ attempts: .* run again .*no way/,
    );
    const received = await failure(net.sessions[0]!);
    expect(received.code).toBe("link");
    expect(received.message).toMatch(/^Lost the connection to memory:, and the source did not come back within 1 s: /);
    expect(net.resumables.size).toBe(0);
    expect(net.files.all.every(({ ends }) => ends.join() === "abort")).toBe(true);
  });

  test("fails when no connection lasts long enough for anything", async () => {
    const net = network({
      receiving: { times },
      faults: (number) => ({ up: [cutAfter(number === 0 ? 50_000 : 300)] }),
    });
    expect((await failure(over(net, { times }))).message).toMatch(/could not make it again within 1 s/);
    // With a back-off: not as often as it can.
    expect(net.connections).toBeGreaterThan(8);
    expect(net.connections).toBeLessThan(100);
    await failure(net.sessions[0]!);
  });

  test.each(["source", "destination"])("ends at once when the %s gives it up meanwhile", async (who) => {
    const cancel = new AbortController();
    const give = { signal: cancel.signal };
    let open = false;
    const times = { ...quick, resume: 60_000 };
    const net = network({
      // Only the session is given up, not what comes then.
      receiving: {
        times,
        get signal() {
          return who === "destination" && !open ? cancel.signal : never;
        },
      },
      faults: (number) => (number === 0 ? { up: [cutAfter(50_000)] } : open ? {} : undefined),
    });
    const onLink = () => setTimeout(() => cancel.abort(new CancelledError("enough")), 30);
    const sending = failure(over(net, { times, onLink, ...(who === "source" && give) }));
    if (who === "destination") {
      expect((await failure(net.sessions[0] ?? sessionOf(net))).message).toBe("enough");
      open = true;
      // It is told when it comes back.
      expect((await sending).message).toBe("The other end does not go on with the session: enough");
    } else expect(await sending).toMatchObject({ code: "cancelled", message: "enough" });
  });

  test("is over with its connection where one end can't do it", async () => {
    for (const sending of [{ redial: undefined }, {}]) {
      const net = network({
        receiving: sending.redial === undefined && "redial" in sending ? {} : { resumables: undefined },
        faults: () => ({ up: [cutAfter(50_000)] }),
      });
      expect((await failure(over(net, sending))).code).toBe("link");
      await failure(net.sessions[0]!);
      expect(net.connections).toBe(1);
    }
  });
});

async function sessionOf(net: Network) {
  while (net.sessions.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  return net.sessions[0]!;
}

/** A source made by hand whose session can be resumed, and which has opened a stream. */
async function handMadeSource() {
  const net = network({
    receiving: { times: { ...quick, resume: 5000, ping: 200, dead: 5000 }, told: () => {} },
  });
  const [near, far] = memoryPair();
  net.accept(far);
  const peer = new HandPeer(near);
  const ticket = { session: randomBytes(16), secret: randomBytes(32) };
  await peer.hello({ session: ticket.session, resume: ticket.secret });
  const welcome = await within(peer.expect(FRAME.WELCOME));
  const running = sessionOf(net);
  running.catch(() => {});
  /** Dials, says RESUME, and gives what is answered. */
  const resume = async (change: Partial<Parameters<typeof encodeControl<typeof Resume>>[1]>) => {
    const [again, accepted] = memoryPair();
    net.accept(accepted);
    const payload = encodeControl(Resume, { ...ticket, received: 1, ...change });
    await again.write([preface(), frameHeader(FRAME.RESUME, 0, [payload]), payload]);
    const reader = new FrameReader(again.input, "test");
    await within(reader.preface());
    const frame = (await within(reader.next()))!;
    const send = (type: number, sequence: number, payload: Uint8Array = Buffer.alloc(0)) =>
      again.write([frameHeader(type, sequence, [payload]), payload]);
    return { frame, reader, send, again };
  };
  return { net, near, peer, welcome, running, resume, ticket };
}

const number = (value: number) => {
  const payload = Buffer.alloc(4);
  payload.writeUInt32LE(value);
  return payload;
};

describe("who asks for a session", () => {
  test.each([
    ["with a wrong secret", () => ({ secret: randomBytes(32) })],
    ["with an empty secret", () => ({ secret: Buffer.alloc(32) })],
    ["that is not there", () => ({ session: randomBytes(16) })],
  ])("%s is refused in the same words, and the session goes on", async (_, change) => {
    const { net, peer, resume } = await handMadeSource();
    const { frame } = await resume(change());
    expect(frame.type).toBe(FRAME.ABORT);
    const { code, message } = decodeControl(Abort, frame.payload);
    expect(code).toBe("refused");
    expect(message).toMatch(/^This receiver does not know that session/);
    expect(net.resumables.size).toBe(1);
    await peer.send(FRAME.DONE, Buffer.of(0x81, 0xa7, ...Buffer.from("streams"), 0));
    await within(peer.expect(FRAME.DONE));
  });

  test("is refused by a receiver that keeps none", async () => {
    const { frame } = await (async () => {
      const made = network({ receiving: { resumables: undefined } });
      const [near, far] = memoryPair();
      made.accept(far);
      const payload = encodeControl(Resume, { session: randomBytes(16), secret: randomBytes(32), received: 1 });
      await near.write([preface(), frameHeader(FRAME.RESUME, 0, [payload]), payload]);
      const reader = new FrameReader(near.input, "test");
      await within(reader.preface());
      return { frame: (await within(reader.next()))! };
    })();
    expect(frame.type).toBe(FRAME.ABORT);
  });

  test("with its secret takes it over, and frames are numbered on", async () => {
    const { peer, resume, running } = await handMadeSource();
    await peer.send(FRAME.PING);
    await new Promise((resolve) => setTimeout(resolve, 10));
    const { frame, send, reader } = await resume({});
    expect(frame.type).toBe(FRAME.RESUMED);
    // HELLO and PING have come.
    expect(decodeControl(Resumed, frame.payload)).toEqual({ received: 2 });
    expect(await within(peer.ended)).toBeDefined();
    reader.expect(1);
    await send(FRAME.PING, 2);
    await send(FRAME.DONE, 3, Buffer.of(0x81, 0xa7, ...Buffer.from("streams"), 0));
    const types: number[] = [];
    for (let next = await within(reader.next()); next?.type !== FRAME.DONE; next = await within(reader.next()))
      types.push(next!.type);
    expect(types.every((type) => type === FRAME.ACK || type === FRAME.PING)).toBe(true);
    await send(FRAME.ACK, 4, number(1000 >>> 9));
    void running.catch(() => {});
  });

  test.each([
    ["never sent", 100],
    ["lie before the session", 0],
    ["are half the numbers away", 2 ** 31],
  ])("and wants to go on from frames that %s ends it", async (_, received) => {
    const { net, running, resume } = await handMadeSource();
    const { frame } = await resume({ received });
    expect(frame.type).toBe(FRAME.ABORT);
    expect(decodeControl(Abort, frame.payload).code).toBe("integrity");
    expect((await failure(running)).code).toBe("integrity");
    expect(net.resumables.size).toBe(0);
  });

  test("again as before, when frames were acknowledged since, ends it", async () => {
    const { peer, resume, running } = await handMadeSource();
    // Wait for a frame of the destination, and acknowledge it.
    const { sequence } = await within(peer.expect(FRAME.PING));
    await peer.send(FRAME.ACK, number(sequence));
    await new Promise((resolve) => setTimeout(resolve, 10));
    const { frame } = await resume({ received: 1 });
    expect(decodeControl(Abort, frame.payload).code).toBe("integrity");
    expect((await failure(running)).message).toMatch(/wants to go on from frame 1/);
  });

  test.each([
    ["what was not sent", 1000],
    ["what was acknowledged long ago", 2 ** 31 + 2],
  ])("and acknowledges %s ends it, or is not heard", async (_, sequence) => {
    const { peer, running } = await handMadeSource();
    await peer.send(FRAME.ACK, number(sequence));
    if (sequence === 1000) expect((await failure(running)).message).toMatch(/acknowledges frame 1000/);
    else {
      await peer.send(FRAME.DONE, Buffer.of(0x81, 0xa7, ...Buffer.from("streams"), 0));
      await within(peer.expect(FRAME.DONE));
    }
  });
});

test("a source ends a session that its destination can't go on with, and says so", async () => {
  const [near, far] = memoryPair();
  const [again, accepted] = memoryPair();
  const opening = openSession(near, { ...sourceOptions, times: quick, redial: async () => again });
  const peer = new HandPeer(far);
  const hello = decodeControl(Hello, (await within(peer.expect(FRAME.HELLO))).payload);
  await peer.welcome(hello.session, { resume: true });
  const session = await within(opening);
  await far.destroy();
  const reader = new FrameReader(accepted.input, "test");
  await within(reader.preface());
  const asked = decodeControl(Resume, (await within(reader.next()))!.payload);
  expect(Buffer.compare(asked.secret, hello.resume!)).toBe(0);
  expect(asked.received).toBe(1);
  const payload = encodeControl(Resumed, { received: 77 });
  await accepted.write([preface(), frameHeader(FRAME.RESUMED, 0, [payload]), payload]);
  // As this is the number that is due there.
  reader.expect(77);
  const abort = (await within(reader.next()))!;
  expect(abort.type).toBe(FRAME.ABORT);
  expect(decodeControl(Abort, abort.payload).code).toBe("integrity");
  await accepted.end();
  expect((await failure(session.failed)).code).toBe("integrity");
  await within(session.abort(new Error("over")));
});

test("control frames are acknowledged at the next tick, and many at once", async () => {
  const { peer, ticket } = await handMadeSource();
  expect(ticket.secret).toHaveLength(32);
  const tell = async (count: number) => {
    for (let i = 0; i < count; i++) await peer.send(FRAME.TELL, Buffer.of(i));
  };
  const took: number[] = [];
  for (let i = 1; i <= 4; i++) {
    const begun = performance.now();
    await tell(1);
    expect((await within(peer.expect(FRAME.ACK))).payload.readUInt32LE()).toBe(i);
    took.push(performance.now() - begun);
  }
  // A tick is a quarter of the time after which there is a sign of life: 50 ms here, and 0.5 s as usual.
  expect(Math.min(...took)).toBeLessThan(150);
  expect(LINK_TIMES.ping / 4).toBe(500);
  await tell(64);
  expect((await within(peer.expect(FRAME.ACK))).payload.readUInt32LE()).toBe(68);
});
