/** What every duplex transport has to do. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CancelledError, ShrinkerError } from "../../core/errors.ts";
import type { Connection, Listener } from "../../core/transport/transport.ts";
import { bytesOf, errorOf, readAll, same, until } from "./helpers.ts";

export interface TransportFixture {
  readonly listener: Listener;
  /** Connects to the listener. */
  dial(signal: AbortSignal): Promise<Connection>;
  /** Another listener, at another address, under this signal. */
  listenElsewhere(signal: AbortSignal): Promise<Listener>;
  /** Connects where nothing is, and rejects when that is known. */
  dialNothing(signal: AbortSignal): Promise<unknown>;
  /** False where the peer's end breaks a write that waits (Deno 2.9, tcp). */
  readonly endsWhileWriting?: boolean;
  /** False where the end of what the acceptor sends is only seen once it has gone. */
  readonly acceptorCanEnd?: boolean;
  close(): Promise<void>;
}

const MIB = 1 << 20;
/** More than any socket's and pipe's buffers on the way, and far less than is offered. */
const MOST_BUFFERED = 24 * MIB;

export function transportCompliance(name: string, open: () => Promise<TransportFixture>): void {
  describe(`${name} is a transport`, () => {
    let fixture: TransportFixture;
    const signal = new AbortController().signal;
    beforeAll(async () => {
      fixture = await open();
    });
    afterAll(() => fixture.close());

    async function pair(): Promise<[Connection, Connection]> {
      const near = await fixture.dial(signal);
      const far = await fixture.listener.accept();
      return [near, far!];
    }
    async function withPair(work: (near: Connection, far: Connection) => Promise<void>): Promise<void> {
      const [near, far] = await pair();
      try {
        await work(near, far);
      } finally {
        await Promise.all([near.destroy(), far.destroy()]);
      }
    }
    async function send(connection: Connection, bytes: Uint8Array): Promise<void> {
      await connection.write([bytes]);
      await connection.end();
    }

    test(
      "carries one big write each way at once",
      () =>
        withPair(async (near, far) => {
          expect(near.duplex && far.duplex).toBe(true);
          const [there, back] = [bytesOf("there", 16 * MIB), bytesOf("back", 16 * MIB + 13)];
          const [atFar, atNear] = await Promise.all([
            readAll(far.input),
            readAll(near.input),
            send(near, there),
            send(far, back),
          ]);
          expect(same(atFar, there)).toBe(true);
          expect(same(atNear, back)).toBe(true);
        }),
      20_000,
    );

    test("carries many small buffers in order, and lets them be reused", () =>
      withPair(async (near, far) => {
        const bytes = bytesOf("small", 300_000);
        const lent = [Buffer.alloc(700), Buffer.alloc(70_000), Buffer.alloc(1)];
        const reading = readAll(far.input);
        for (let start = 0, i = 0; start < bytes.length; i++) {
          const part: Buffer[] = [];
          for (const buffer of lent) {
            const length = Math.min(bytes.length - start, 1 + ((i * 7919) % buffer.length));
            bytes.copy(buffer, 0, start, start + length);
            part.push(buffer.subarray(0, length));
            start += length;
          }
          await near.write(part);
          for (const buffer of lent) buffer.fill(0xee);
        }
        await near.write([]);
        await near.end();
        expect(same(await reading, bytes)).toBe(true);
      }));

    test("a side that has ended still receives", async () => {
      for (const dialerEnds of fixture.acceptorCanEnd === false ? [true] : [true, false]) {
        await withPair(async (near, far) => {
          const [first, second] = dialerEnds ? [near, far] : [far, near];
          await send(first, Buffer.from("question"));
          expect((await readAll(second.input)).toString()).toBe("question");
          const answer = bytesOf("answer", 3 * MIB);
          const [got] = await Promise.all([readAll(first.input), send(second, answer)]);
          expect(same(got, answer)).toBe(true);
        });
      }
    });

    test(
      "a writer waits for its reader, and nothing is lost",
      () =>
        withPair(async (near, far) => {
          const offered = 4 * MOST_BUFFERED;
          const buffer = bytesOf("flood", MIB);
          let accepted = 0;
          const writing = (async () => {
            while (accepted < offered) {
              await near.write([buffer]);
              accepted += buffer.length;
            }
            await near.end();
            // The other direction is over too: nothing but what waits keeps the connection.
            await far.end();
          })();
          await until(() => accepted > 0);
          for (let before = -1; before !== accepted; await sleep(150)) before = accepted;
          expect(accepted).toBeLessThan(MOST_BUFFERED);
          let length = 0;
          let wrong = 0;
          for await (const piece of far.input) {
            const expected = buffer.subarray(length % MIB, (length % MIB) + piece.length);
            if (!same(expected, piece.subarray(0, expected.length))) wrong++;
            length += piece.length;
          }
          await writing;
          expect(length).toBe(offered);
          expect(wrong).toBe(0);
        }),
      20_000,
    );

    test("what was sent before the end waits for a late reader", async () => {
      for (const dialerSends of fixture.acceptorCanEnd === false ? [true] : [true, false]) {
        await withPair(async (near, far) => {
          const [first, second] = dialerSends ? [near, far] : [far, near];
          const bytes = bytesOf("late", 4 * MIB);
          const sending = send(first, bytes);
          const ending = fixture.endsWhileWriting === false ? sending.then(() => second.end()) : second.end();
          const iterator = second.input[Symbol.asyncIterator]();
          const pieces = [(await iterator.next()).value];
          await sleep(200);
          for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
            pieces.push(next.value);
            if (pieces.length < 5) await sleep(20);
          }
          await Promise.all([sending, ending]);
          expect(same(Buffer.concat(pieces), bytes)).toBe(true);
        });
      }
    });

    test("destroy fails what waits with its reason, at any time and again", () =>
      withPair(async (near, far) => {
        const reason = new ShrinkerError("refused", "the test gave it up");
        const writing = errorOf(
          (async () => {
            for (;;) await near.write([Buffer.alloc(4 * MIB)]);
          })(),
        );
        const reading = errorOf(readAll(near.input));
        await sleep(50);
        await Promise.all([near.destroy(reason), near.destroy()]);
        expect(await writing).toBe(reason);
        expect(await reading).toBe(reason);
        await near.destroy(new Error("too late"));
        expect(await errorOf(near.write([Buffer.alloc(1)]))).toBe(reason);
        expect(await errorOf(near.end())).toBe(reason);
        // The other side gets what was on its way, at most, and then an end or an error.
        const got = await readAll(far.input).catch((error) => error);
        if (got instanceof Error) expect(got).toHaveProperty("code", "link");
      }));

    test("a writer learns that its peer has gone", () =>
      withPair(async (near, far) => {
        await far.write([Buffer.from("hello")]);
        const iterator = near.input[Symbol.asyncIterator]();
        expect(Buffer.from((await iterator.next()).value).toString()).toBe("hello");
        await far.destroy();
        const error = await errorOf(
          (async () => {
            for (;;) await near.write([Buffer.alloc(64 * 1024)]);
          })(),
        );
        expect(error).toHaveProperty("code", "link");
        expect(error.message.length).toBeGreaterThan(10);
        expect(error.message).not.toMatch(/\n/);
      }));

    test("destroy after both ends is no failure", async () => {
      const [near, far] = await pair();
      await Promise.all([send(near, Buffer.from("a")), send(far, Buffer.from("b"))]);
      const [one, two] = await Promise.all([readAll(near.input), readAll(far.input)]);
      expect(`${one}${two}`).toBe("ba");
      await Promise.all([near.destroy(), far.destroy(), near.end(), far.end()]);
      await expect(near.write([Buffer.alloc(1)])).rejects.toBeInstanceOf(Error);
    });

    test("several connections don't mix", async () => {
      // The accepting side greets nobody: which connection is which is told by its bytes.
      const nears = await Promise.all(Array.from({ length: 5 }, () => fixture.dial(signal)));
      const fars: Connection[] = [];
      for (const _ of nears) fars.push((await fixture.listener.accept())!);
      await Promise.all(nears.map((near, i) => send(near, bytesOf(`connection ${i}`, 500_000))));
      const echoes = fars.map(async (far) => send(far, await readAll(far.input)));
      const got = await Promise.all(nears.map((near) => readAll(near.input)));
      await Promise.all(echoes);
      expect(got.every((bytes, i) => same(bytes, bytesOf(`connection ${i}`, 500_000)))).toBe(true);
      await Promise.all([...nears, ...fars].map((connection) => connection.destroy()));
    });

    test("an aborted dial rejects with the reason", async () => {
      const before = AbortSignal.abort(new CancelledError("before"));
      expect((await errorOf(fixture.dial(before))).message).toBe("before");
      const during = new AbortController();
      const dialling = fixture.dial(during.signal);
      during.abort(new CancelledError("during"));
      // It may have connected already; then the connection is the caller's.
      const result = await dialling.catch((error: Error) => error);
      if (result instanceof Error) expect(result.message).toBe("during");
      else {
        await result.destroy();
        await (await fixture.listener.accept())?.destroy();
      }
    });

    test("a dial to nothing says so in one line", async () => {
      const error = await errorOf(fixture.dialNothing(signal));
      expect(error).toHaveProperty("code", "link");
      expect(error.message).toMatch(/^[^\n]{20,300}$/);
    });

    test("a closed listener gives no more peers; an aborted one its reason", async () => {
      const closed = await fixture.listenElsewhere(signal);
      const waiting = closed.accept();
      await closed.close();
      await closed.close();
      expect(await waiting).toBe(undefined);
      expect(await closed.accept()).toBe(undefined);
      const controller = new AbortController();
      const aborted = await fixture.listenElsewhere(controller.signal);
      const failing = errorOf(aborted.accept());
      controller.abort(new CancelledError("enough"));
      expect((await failing).message).toBe("enough");
      expect((await errorOf(fixture.listenElsewhere(AbortSignal.abort(new CancelledError("no"))))).message).toBe("no");
    });

    test("a listener that closes keeps the connections it gave", async () => {
      const own = await open();
      const near = await own.dial(signal);
      const far = (await own.listener.accept())!;
      await own.listener.close();
      const [got] = await Promise.all([readAll(far.input), send(near, Buffer.from("still here"))]);
      expect(got.toString()).toBe("still here");
      await Promise.all([near.destroy(), far.destroy()]);
      await own.close();
    });
  });
}
