// Over TCP, where a failure can be told from an end.
import { describe, expect, test } from "bun:test";
import { once } from "node:events";
import net from "node:net";
import { ShrinkerError } from "../../../core/errors.ts";
import { parseAddress } from "../../../core/transport/transport.ts";
import { transports } from "../../../transports/registry.ts";
import { tcp } from "../../../transports/tcp.ts";
import { within } from "../../support/session.ts";
import { openTunnel } from "./tunnels.ts";

const { signal } = new AbortController();
const at = (text: string) => parseAddress(text, transports);

/** A client and a service that are plain sockets, and a tunnel between them. */
async function connectSockets() {
  const server = net.createServer({ allowHalfOpen: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  const tunnel = await openTunnel(
    {},
    { dial: () => tcp.dial(at(`tcp://127.0.0.1:${port}`), { signal, insecure: true }) },
  );
  const listener = await tcp.listen(at("tcp://127.0.0.1:0"), { signal, insecure: true });
  const accepted = listener.accept();
  const served = once(server, "connection");
  const client = net.connect({ port: Number(listener.address.split(":").at(-1)), host: "127.0.0.1" });
  const carried = tunnel.carry((await accepted)!, "any");
  carried.catch(() => {});
  const [service] = (await within(served, "service")) as [net.Socket];
  // Bytes have crossed both ways: all of the connection is up.
  client.write("question");
  await within(once(service, "data"), "question");
  service.write("answer");
  await within(once(client, "data"), "answer");
  return {
    ...{ client, service, carried, tunnel },
    async [Symbol.asyncDispose]() {
      client.destroy();
      service.destroy();
      server.close();
      await listener.close();
    },
  };
}

/** How a socket ends for its owner. */
function endOf(socket: net.Socket): Promise<unknown> {
  return new Promise((resolve) => {
    socket.once("error", (error) => resolve((error as NodeJS.ErrnoException).code));
    socket.once("end", () => resolve("end"));
    socket.resume();
  });
}

describe("over TCP", () => {
  test.each(["client", "service"] as const)("a reset of the %s reaches the other as a reset", async (side) => {
    await using met = await connectSockets();
    const { client, service, carried, tunnel } = met;
    const [from, to] = side === "client" ? [client, service] : [service, client];
    const ended = endOf(to);
    from.resetAndDestroy();
    expect(await within(ended)).toBe("ECONNRESET");
    await expect(within(carried)).rejects.toMatchObject({ code: "link" });
    await tunnel[Symbol.asyncDispose]();
  });

  test("the end of the session is a reset for both", async () => {
    await using met = await connectSockets();
    const { client, service, tunnel } = met;
    const ends = Promise.all([endOf(client), endOf(service)]);
    await tunnel.abort(new ShrinkerError("link", "the link is gone"));
    expect(await within(ends)).toEqual(["ECONNRESET", "ECONNRESET"]);
  });

  test("it is one also where a direction has ended before", async () => {
    await using met = await connectSockets();
    const { client, service, tunnel } = met;
    const ended = endOf(service);
    client.end();
    expect(await within(ended)).toBe("end");
    const broken = endOf(client);
    await tunnel.abort(new ShrinkerError("link", "the link is gone"));
    expect(await within(broken)).toBe("ECONNRESET");
  });

  test("an end is an end", async () => {
    await using met = await connectSockets();
    const { client, service, carried, tunnel } = met;
    const ends = Promise.all([endOf(client), endOf(service)]);
    service.end("good-bye");
    client.end();
    expect(await within(ends)).toEqual(["end", "end"]);
    await within(carried);
    await tunnel[Symbol.asyncDispose]();
  });
});
