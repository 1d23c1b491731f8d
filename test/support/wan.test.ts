import { describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { startWan, type WanOptions } from "./wan.ts";

const LOCAL = { host: "127.0.0.1", port: 0 };

/** A server that does `serve` to each that comes, and a way to it. */
async function wanTo(serve: (socket: Socket) => void, options: Omit<WanOptions, "listen" | "to">) {
  const server = createServer({ allowHalfOpen: true }, (socket) => serve(socket.on("error", () => {})));
  await once(server.listen(LOCAL), "listening");
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("it does not listen");
  const wan = await startWan({ listen: LOCAL, to: { ...LOCAL, port: address.port }, ...options });
  return {
    wan,
    dial: () => connect({ ...LOCAL, port: wan.port, allowHalfOpen: true }).on("error", () => {}),
    async [Symbol.asyncDispose]() {
      await wan.close();
      server.close();
    },
  };
}

async function readAll(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = [];
  socket.on("data", (piece: Buffer) => pieces.push(piece));
  await once(socket, "end");
  return Buffer.concat(pieces);
}

describe("a wan", () => {
  test("delivers every byte in order, later, and no faster than its rate", async () => {
    await using link = await wanTo((socket) => void socket.pipe(socket), { delay: 30, rate: 8e6 });
    const sent = randomBytes(4_000_000);
    const since = performance.now();
    const socket = link.dial();
    const echo = readAll(socket);
    socket.end(sent);
    expect(Buffer.compare(await echo, sent)).toBe(0);
    expect(performance.now() - since).toBeGreaterThan(60);
    // Twice what fills the way is the bound, what waits for it, and the last read.
    expect(link.wan.peak).toBeGreaterThanOrEqual(240_000);
    expect(link.wan.peak).toBeLessThan(2 * 480_000 + (64 << 10) + (1 << 20));
  });

  test("is shared by its connections, of which one alone may not fill it, and less so where packets are lost", async () => {
    const rateOf = async (connections: number, loss: number, ms: number) => {
      await using link = await wanTo((socket) => void socket.on("data", ({ length }: Buffer) => (got += length)), {
        ...{ delay: 5, rate: 16e6, window: 40_000, loss },
      });
      let got = 0;
      const sockets = Array.from({ length: connections }, link.dial);
      for (const socket of sockets) socket.write(Buffer.alloc(4 << 20));
      const begun = performance.now();
      await sleep(ms);
      const rate = (got * 1000) / (performance.now() - begun);
      for (const socket of sockets) socket.destroy();
      return rate;
    };
    let said = "";
    // A window each round trip of 10 ms, when timers are on time: a busy machine's aren't always.
    for (const ms of [200, 300, 500, 1000, 2000]) {
      const [one, eight, lossy] = [await rateOf(1, 0, ms), await rateOf(8, 0, ms), await rateOf(1, 0.2, ms)];
      if (one < 4.5e6 && eight > 1.8 * one && eight < 17e6 && lossy < 0.6 * one) return;
      said = `${one}, ${eight} and ${lossy} bytes a second in ${ms} ms`;
    }
    throw new Error(said);
  });

  test("delivers what its end sent before it closed", async () => {
    const got = Promise.withResolvers<Buffer>();
    await using link = await wanTo((socket) => got.resolve(readAll(socket.resume().end())), { delay: 20, rate: 1e6 });
    const socket = link.dial().resume();
    await once(socket, "end");
    socket.end("the last words");
    expect((await got.promise).toString()).toBe("the last words");
  });

  test("is cut at a byte, and made again", async () => {
    let got = 0;
    let cutAt = 100_000;
    const options: WanOptions["onDelivery"] = (direction, bytes) => {
      if (direction === "up" && bytes >= cutAt) link.wan.cut();
    };
    await using link = await wanTo(
      (socket) => {
        socket.on("data", ({ length }: Buffer) => {
          got += length;
        });
        socket.on("end", () => socket.end("all"));
      },
      { delay: 2, rate: 1e6, onDelivery: options },
    );
    const broken = link.dial();
    const closed = new Promise((resolve) => broken.resume().on("close", resolve));
    broken.write(Buffer.alloc(4_000_000));
    await closed;
    expect(got).toBeLessThan(cutAt);
    cutAt = Number.POSITIVE_INFINITY;
    const again = link.dial();
    again.end("x");
    expect((await readAll(again)).toString()).toBe("all");
  });

  test("is silent while stalled", async () => {
    await using link = await wanTo((socket) => void socket.pipe(socket), { delay: 1, rate: 1e6 });
    const socket = link.dial();
    const answer = once(socket, "data");
    link.wan.stall(true);
    socket.write("?");
    expect(await Promise.race([answer, sleep(60)])).toBe(undefined);
    link.wan.stall(false);
    expect(String((await answer)[0])).toBe("?");
    socket.destroy();
  });
});
