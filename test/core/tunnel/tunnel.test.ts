import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { LinkError, ShrinkerError } from "../../../core/errors.ts";
import type { Connection } from "../../../core/transport/transport.ts";
import { MAX_CONNECTIONS } from "../../../core/tunnel/entrance.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { qemuStream } from "../../support/qemu-stream.ts";
import { source, within } from "../../support/session.ts";
import { endOf, openTunnel, readAll, type Service } from "./tunnels.ts";

const text = (words: string) => Buffer.from(words);

async function sendAll(connection: Connection, pieces: Iterable<Uint8Array>): Promise<void> {
  for (const piece of pieces) await connection.write([piece]);
  await connection.end();
}

/** Gives back what it gets, piece by piece. */
const echo: Service = (connection) => {
  void (async () => {
    for await (const piece of connection.input) await connection.write([piece]);
    await connection.end();
  })().catch(() => {});
};

test("any bytes in any pieces reach the other end, both ways at once, on several connections", async () => {
  const met: PromiseWithResolvers<Connection>[] = [];
  const service =
    (i: number): Service =>
    (connection) =>
      met[i]!.resolve(connection);
  // One session takes all of them: it has to outlast its connections.
  await using tunnel = await openTunnel({ s0: service(0), s1: service(1), s2: service(2), s3: service(3) });
  const pieces = fc.array(
    fc.oneof(
      fc.uint8Array({ maxLength: 50 }),
      fc.nat(9000).map((length) => new Uint8Array(length)),
      fc.nat(200).map((n) => Buffer.alloc(5000, `${n}`)),
    ),
    { maxLength: 6 },
  );
  const one = fc.record({ out: pieces, back: pieces, format: fc.constantFrom("bytes", "qemu") });
  await fc.assert(
    fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 4 }), async (connections) => {
      const carryOne = async ({ out, back, format }: (typeof connections)[number], i: number) => {
        met[i] = Promise.withResolvers();
        const { client, carried } = tunnel.connect(`s${i}`, format);
        const sent = sendAll(client, out);
        const there = await met[i].promise;
        const returned = sendAll(there, back);
        const [got, gotBack] = await Promise.all([readAll(there), readAll(client)]);
        await Promise.all([sent, returned, carried]);
        expect(Buffer.compare(got, Buffer.concat(out))).toBe(0);
        expect(Buffer.compare(gotBack, Buffer.concat(back))).toBe(0);
      };
      await within(Promise.all(connections.map(carryOne)), "connections");
    }),
    { numRuns: 15 },
  );
  expect(tunnel.entrance.size).toBe(0);
});

describe("a connection", () => {
  test("whose client has ended its direction still brings the answer", async () => {
    await using tunnel = await openTunnel({
      count: async (connection) => {
        void readAll(connection).then((all) => sendAll(connection, [text(`${all.length}`)]));
      },
    });
    const { client, carried } = tunnel.connect("count");
    await sendAll(client, [text("12345"), text("678")]);
    expect(`${await within(readAll(client))}`).toBe("8");
    await within(carried);
  });

  test("whose service has ended its direction still takes what the client says", async () => {
    const heard = Promise.withResolvers<Buffer>();
    await using tunnel = await openTunnel({
      listens: (connection) => void sendAll(connection, [text("hello")]).then(() => heard.resolve(readAll(connection))),
    });
    const { client, carried } = tunnel.connect("listens");
    expect(`${await within(readAll(client))}`).toBe("hello");
    await sendAll(client, [text("and good-bye")]);
    expect(`${await within(heard.promise)}`).toBe("and good-bye");
    await within(carried);
  });

  test.each(["bytes", "qemu"])("of %s holds nothing back while its client waits for an answer", async (format) => {
    await using tunnel = await openTunnel({ echo });
    const { client, carried } = tunnel.connect("echo", format);
    const answers = client.input[Symbol.asyncIterator]();
    for (let i = 0; i < 30; i++) {
      // Whole pages, parts of them, and what begins as a stream of QEMU's does.
      const question = i === 3 ? Buffer.alloc(6000, "QEVM") : text(`question ${i}`);
      const asked = performance.now();
      await client.write([question]);
      let answer = Buffer.alloc(0);
      while (answer.length < question.length) {
        const { value } = await within(answers.next(), `answer to question ${i}`, 2000);
        answer = Buffer.concat([answer, value!]);
      }
      expect(Buffer.compare(answer, question)).toBe(0);
      expect(performance.now() - asked).toBeLessThan(2000);
    }
    await client.end();
    expect((await within(answers.next())).done).toBe(true);
    await within(carried);
  });

  test("holds back no half of a page for long, also while more of it comes", async () => {
    let got = 0;
    await using tunnel = await openTunnel({
      counts: (connection) => {
        void (async () => {
          for await (const { length } of connection.input) got += length;
          await connection.end();
        })();
      },
    });
    const { client, carried } = tunnel.connect("counts", "qemu");
    const bytes = [...qemuStream({ zeroShare: 0 })][0]!;
    await client.write([bytes.subarray(0, 500)]);
    // The first page is not whole by the end of this.
    for (let at = 500; at < 3500 && got <= 1000; at += 10) {
      await client.write([bytes.subarray(at, at + 10)]);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(got).toBeGreaterThan(1000);
    await client.end();
    await within(carried);
  });

  test("holds back no part of a large piece either", async () => {
    const arrived = Promise.withResolvers<void>();
    const length = (5 << 20) + 77;
    await using tunnel = await openTunnel({
      sink: (connection) => {
        void (async () => {
          let got = 0;
          for await (const { length: more } of connection.input) {
            got += more;
            if (got === length) arrived.resolve();
          }
          await connection.end();
        })();
      },
    });
    const large = Buffer.alloc(length);
    for (let at = 0; at < length; at += 4)
      large.writeUInt32LE(Math.imul(at, 2654435761) >>> 0, Math.min(at, length - 4));
    // Whatever the transport makes of it, the stream gets it as one piece.
    let release = () => {};
    const more = new Promise<void>((resolve) => {
      release = resolve;
    });
    const [client, carried] = oneWay(tunnel.carry, "sink", [large], more);
    await within(arrived.promise, "rest of the piece");
    release();
    await within(carried);
    await client;
  });

  test("that the service refuses is broken, and no other is", async () => {
    await using tunnel = await openTunnel({
      echo,
      full: (_connection) => Promise.reject(new LinkError("nothing listens at unix:/run/full")),
    });
    const other = tunnel.connect("echo");
    for (const [name, why] of [
      ["none", 'There is no service "none"'],
      ["full", "nothing listens at unix:/run/full"],
    ] as const) {
      const { client, carried } = tunnel.connect(name);
      await client.write([text("anybody there?")]);
      const error = await within(carried.catch((thrown) => thrown as ShrinkerError));
      expect(error).toMatchObject({ code: "refused" });
      expect(`${error}`).toContain(why);
      expect(await within(endOf(client))).toBeInstanceOf(Error);
    }
    await sendAll(other.client, [text("still here")]);
    expect(`${await within(readAll(other.client))}`).toBe("still here");
    await within(other.carried);
  });

  test("that breaks at one end breaks at the other, which is told why", async () => {
    const service = Promise.withResolvers<Connection>();
    await using tunnel = await openTunnel({ a: (connection) => service.resolve(connection) });
    const { client, carried } = tunnel.connect("a");
    const there = await within(service.promise);
    await there.write([text("so far")]);
    await there.destroy();
    const error = await within(carried.catch((thrown) => thrown as ShrinkerError));
    expect(error).toMatchObject({ code: "link" });
    expect(`${error}`).toContain("memory:a dropped the connection");
    expect(await within(endOf(client))).toBeInstanceOf(Error);
  });

  test("whose client is gone is broken at the service, which may be saying something", async () => {
    const service = Promise.withResolvers<Connection>();
    await using tunnel = await openTunnel({ a: (connection) => service.resolve(connection) });
    const { client, carried } = tunnel.connect("a");
    const there = await within(service.promise);
    const saying = (async () => {
      for (;;) await there.write([Buffer.alloc(65536, "x")]);
    })().catch((error) => error as Error);
    await client.input[Symbol.asyncIterator]().next();
    await client.destroy();
    expect(await within(saying, "service")).toBeInstanceOf(Error);
    await expect(within(carried)).rejects.toThrow(/dropped the connection/);
  });

  test("is broken by its signal, whatever it waits for", async () => {
    const stalled: Service = () => {};
    await using tunnel = await openTunnel({ stalled });
    const [client, local] = memoryPair();
    const stop = new AbortController();
    const { entrance, source } = tunnel;
    const carried = entrance.carry(source.sender, local, { service: "stalled", format: "bytes", signal: stop.signal });
    const filled = (async () => {
      for (;;) await client.write([Buffer.alloc(65536, "x")]);
    })().catch((error) => error as Error);
    // Until all is full from here to the service, and the stream waits for credit.
    let before = -1;
    while (tunnel.wire() !== before) {
      before = tunnel.wire();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    stop.abort(new ShrinkerError("refused", "enough"));
    await expect(within(carried)).rejects.toThrow("enough");
    expect(await within(filled)).toBeInstanceOf(Error);
    while (entrance.size > 0) await within(entrance.left(), "other end");
  });
});

/** A connection whose peer sends these pieces as they are, and ends when it is told to. */
function oneWay(
  carry: (connection: Connection, service: string) => Promise<void>,
  service: string,
  pieces: readonly Uint8Array[],
  end: Promise<void>,
): [Promise<void>, Promise<void>] {
  const ended = Promise.withResolvers<void>();
  const connection: Connection = {
    peer: "memory:pieces",
    duplex: true,
    input: (async function* () {
      yield* pieces;
      await end;
    })(),
    write: async () => {},
    end: async () => ended.resolve(),
    destroy: async () => {},
  };
  return [ended.promise, carry(connection, service)];
}

test("a session that ends breaks all of its connections, also those that nobody reads", async () => {
  const services: Connection[] = [];
  const tunnel = await openTunnel({
    silent: (connection) => services.push(connection),
    talks: (connection) => {
      services.push(connection);
      void (async () => {
        for (;;) await connection.write([Buffer.alloc(65536, "x")]);
      })().catch(() => {});
    },
  });
  const quiet = tunnel.connect("silent");
  const waiting = tunnel.connect("talks");
  // All it has said is there: only what comes back is under way, and nobody takes it.
  await waiting.client.end();
  const fills = tunnel.connect("silent");
  const filling = (async () => {
    for (;;) await fills.client.write([Buffer.alloc(65536, "x")]);
  })().catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(services.length).toBe(3);
  const told = await tunnel.abort(new ShrinkerError("input", "that is all"));
  expect(`${told}`).toContain("that is all");
  for (const { carried } of [quiet, waiting, fills]) await expect(within(carried)).rejects.toThrow("that is all");
  await within(filling);
  for (const { client } of [quiet, waiting, fills]) expect(await within(endOf(client))).toBeInstanceOf(Error);
  for (const service of services) await expect(within(service.write([text("?")]))).rejects.toThrow(/dropped/);
  expect(tunnel.entrance.size).toBe(0);
});

test("as many connections as are allowed are carried at once, and again", async () => {
  expect(MAX_CONNECTIONS).toBe(96);
  await using tunnel = await openTunnel({ echo });
  for (const round of [1, 2]) {
    const all = Array.from({ length: MAX_CONNECTIONS }, () => tunnel.connect("echo"));
    expect(tunnel.entrance.full).toBe(true);
    await within(Promise.all(all.map(({ client }, i) => sendAll(client, [text(`${round}.${i}`)]))), "connections");
    const answers = await within(Promise.all(all.map(({ client }) => readAll(client))), "answers");
    expect(answers.map(String)).toEqual(all.map((_, i) => `${round}.${i}`));
    await within(Promise.all(all.map(({ carried }) => carried)));
    while (tunnel.entrance.size > 0) await within(tunnel.entrance.left());
  }
});

test("a connection waits for no file, where files wait for each other", async () => {
  const tunnel = await openTunnel({ echo }, { allOrNothing: true });
  const { sender } = tunnel.source;
  const { signal } = new AbortController();
  const broken = tunnel.connect("none");
  const sent = await within(sender.send(source("disk", "raw", [text("of a machine")]), signal));
  const { client, carried } = tunnel.connect("echo");
  await sendAll(client, [text("at once")]);
  expect(`${await within(readAll(client))}`).toBe("at once");
  await within(carried);
  await expect(within(broken.carried)).rejects.toThrow(/no service/);
  expect(tunnel.files.get("disk").ends).toEqual([]);
  await tunnel[Symbol.asyncDispose]();
  await within(sent.landed);
  expect(tunnel.files.get("disk").ends).toEqual(["commit"]);
});

test("what one connection has brought costs the next hardly anything", async () => {
  const received: Promise<Buffer>[] = [];
  await using tunnel = await openTunnel({
    vm: (connection) => {
      const all = readAll(connection);
      received.push(all);
      void all.then(() => connection.end());
    },
  });
  const stream = [...qemuStream({ blocks: [{ name: "pc.ram", length: 4 << 20 }], zeroShare: 0.3 })];
  const costs: number[] = [];
  for (let i = 0; i < 2; i++) {
    const before = tunnel.wire();
    const { client, carried } = tunnel.connect("vm", "qemu");
    await sendAll(client, stream);
    await within(carried);
    costs.push(tunnel.wire() - before);
    expect(Buffer.compare(await received[i]!, Buffer.concat(stream))).toBe(0);
  }
  expect(costs[0]).toBeGreaterThan(1 << 19);
  expect(costs[1]!).toBeLessThan(costs[0]! / 20);
});
