import { expect, test } from "bun:test";
import { once } from "node:events";
import { connect } from "node:net";
import { Channel } from "../../../../core/machines/nbd/channel.ts";
import { startNbdServer } from "../../../support/nbd-server.ts";
import { within } from "../../../support/session.ts";
import { noise } from "../image/files.ts";
import { failure } from "./connect.ts";

const BYTES = noise(9 << 20);

/** A channel whose server sends all of `BYTES` at once. */
async function open() {
  const server = await startNbdServer({ bytes: new Uint8Array(0), greeting: Buffer.from(BYTES) });
  const socket = connect(server.path);
  await once(socket, "connect");
  const channel = new Channel(socket, () => {});
  return {
    channel,
    socket,
    async [Symbol.asyncDispose]() {
      channel.fail(new Error("the test is over"));
      await server[Symbol.asyncDispose]();
    },
  };
}

test("what nobody takes stops the server, and comes once it is taken", async () => {
  await using pair = await open();
  const paused = async () => {
    while (!pair.socket.isPaused()) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  await within(paused());
  expect(pair.socket.bytesRead).toBeLessThan(4 << 20);
  const first = await within(pair.channel.take(5));
  await within(paused());
  const into = new Uint8Array(BYTES.length - 5);
  await within(pair.channel.fill(into));
  expect(Buffer.compare(Buffer.concat([first, into]), BYTES)).toBe(0);
});

test("nothing is taken once it has failed", async () => {
  await using pair = await open();
  const waiting = failure(pair.channel.fill(new Uint8Array(BYTES.length + 1)));
  pair.channel.fail(new Error("first"));
  pair.channel.fail(new Error("second"));
  pair.channel.write(new Uint8Array(1));
  expect((await within(waiting)).message).toBe("first");
  expect((await failure(pair.channel.take(1))).message).toBe("first");
});
