import { describe, expect, test } from "bun:test";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../transports/helpers.ts";
import { type DatagramWanOptions, startDatagramWan } from "./datagrams.ts";

const LOCAL = { host: "127.0.0.1", port: 0 };

async function bound(): Promise<Socket> {
  const socket = createSocket("udp4");
  socket.bind(0, LOCAL.host);
  await once(socket, "listening");
  return socket;
}

/** A way to a server that echoes, and a client. */
async function echoed(options: Pick<DatagramWanOptions, "delay" | "rate" | "loss" | "random">) {
  const server = await bound();
  server.on("message", (bytes, { port, address }) => server.send(bytes, port, address));
  const wan = await startDatagramWan({ listen: LOCAL, to: { ...LOCAL, port: server.address().port }, ...options });
  const clients: Socket[] = [];
  const got: string[] = [];
  return {
    wan,
    got,
    async client() {
      const socket = await bound();
      clients.push(socket);
      socket.on("message", (bytes) => got.push(String(bytes)));
      return (text: string) => socket.send(text, wan.port, LOCAL.host);
    },
    async [Symbol.asyncDispose]() {
      await wan.close();
      for (const socket of [server, ...clients]) socket.close();
    },
  };
}

describe("a wan for datagrams", () => {
  test("delivers them later, and drops those that are lost", async () => {
    const losses = [1, 1, 0];
    await using way = await echoed({ delay: 15, rate: 1e6, loss: 0.5, random: () => losses.shift() ?? 1 });
    const send = await way.client();
    for (const text of ["a", "b", "c", "d"]) send(text);
    const since = performance.now();
    await until(() => way.got.length === 3);
    expect(performance.now() - since).toBeGreaterThan(25);
    expect(new Set(way.got).size).toBe(3);
    expect(way.wan.dropped).toBe(1);
  });

  test("has no room for more than waits for 50 ms", async () => {
    await using way = await echoed({ delay: 0, rate: 2000 });
    const send = await way.client();
    for (let i = 0; i < 20; i++) send("x".repeat(12));
    await sleep(150);
    // 40 bytes each, with headers: 20 ms. Three have room, and one more for each 20 ms that all of them take to come.
    expect(way.wan.dropped).toBeGreaterThan(14);
    expect(way.wan.dropped).toBeLessThan(18);
  });

  test("is cut for who is there, and not for who comes", async () => {
    await using way = await echoed({ delay: 5, rate: 1e6 });
    const [first, second] = [await way.client(), await way.client()];
    first("before");
    await until(() => way.got.length > 0);
    way.got.length = 0;
    way.wan.cut();
    first("lost");
    second("again");
    await until(() => way.got.length > 0);
    expect(way.got).toEqual(["again"]);
  });

  test("is mended for who was there", async () => {
    await using way = await echoed({ delay: 0, rate: 1e6 });
    const send = await way.client();
    send("before");
    await until(() => way.got.length > 0);
    way.wan.cut();
    send("lost");
    await until(() => way.wan.dropped > 0);
    way.wan.mend();
    send("again");
    await until(() => way.got.length > 1);
    expect(way.got).toEqual(["before", "again"]);
  });
});
