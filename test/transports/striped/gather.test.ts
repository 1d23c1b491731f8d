import { describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LinkError } from "../../../core/errors.ts";
import type { Connection, Listener } from "../../../core/transport/transport.ts";
import { acceptQueue } from "../../../transports/accept.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { stripedConnection } from "../../../transports/striped/connection.ts";
import { encodeHead } from "../../../transports/striped/format.ts";
import { GATHER_LIMITS, gather } from "../../../transports/striped/gather.ts";
import { stripedTransport } from "../../../transports/striped.ts";
import { at, bytesOf, errorOf, never, readAll, same } from "../helpers.ts";

const ID = Buffer.alloc(16, 7);

/** A listener to which a test brings connections, and what gathers them. */
function gathering(limits = GATHER_LIMITS) {
  const peers = acceptQueue();
  const inner: Listener = { address: "memory:", accept: peers.accept, close: async () => peers.close() };
  const listener = gather(inner, limits);
  return {
    listener,
    async bring(bytes: Uint8Array, key?: string): Promise<Connection> {
      const [near, far] = memoryPair();
      if (bytes.length > 0) await near.write([bytes]);
      peers.offer(key === undefined ? far : { ...far, identity: { key, name: key, permissions: {} } });
      return near;
    },
    [Symbol.asyncDispose]: () => listener.close(),
  };
}

const head = (index: number, count = 2, group: Uint8Array = ID) => encodeHead({ group, count, index });
/** Ends as soon as the other side does. */
const gone = (connection: Connection) => errorOf(readAll(connection.input));

describe("a listener that gathers", () => {
  test("gives one connection for a group, and others as they are", async () => {
    await using side = gathering();
    const lanes = [await side.bring(head(1)), await side.bring(Buffer.from("plain")), await side.bring(head(0))];
    const plain = (await side.listener.accept())!;
    const far = (await side.listener.accept())!;
    const [second, other, first] = lanes as [Connection, Connection, Connection];
    await other.end();
    expect((await readAll(plain.input)).toString()).toBe("plain");
    const near = stripedConnection([first, second]);
    const bytes = bytesOf("group", 300_000);
    const reading = readAll(far.input);
    await near.write([bytes]);
    await near.end();
    expect(same(await reading, bytes)).toBe(true);
    await near.destroy();
  });

  test("never puts connections of two peers together", async () => {
    await using side = gathering({ ...GATHER_LIMITS, ms: 60 });
    const lanes = [await side.bring(head(0), "p256:a"), await side.bring(head(1), "p256:b"), await side.bring(head(1))];
    for (const lane of lanes) expect(await gone(lane)).toHaveProperty("code", "link");
    const own = [await side.bring(head(0), "p256:a"), await side.bring(head(1), "p256:a")];
    expect((await side.listener.accept())?.identity?.key).toBe("p256:a");
    for (const lane of own) await lane.destroy();
  });

  test("drops what stays incomplete, silent, or is wrong", async () => {
    await using side = gathering({ ...GATHER_LIMITS, ms: 60 });
    const damaged = head(0);
    damaged[9]! ^= 1;
    const starts = [head(0), head(0), Buffer.alloc(0), head(1).subarray(0, 7), damaged, head(0, 17), head(3, 3)];
    const lanes = await Promise.all(starts.map((bytes) => side.bring(bytes)));
    for (const lane of lanes) expect(await gone(lane)).toHaveProperty("code", "link");
  });

  test("holds no more strangers and incomplete groups than it may", async () => {
    expect(GATHER_LIMITS).toEqual({ strangers: 64, gathered: 128, ms: 15_000 });
    await using side = gathering({ strangers: 2, gathered: 2, ms: 5000 });
    const silent = [];
    for (let i = 0; i < 3; i++) silent.push(await side.bring(Buffer.alloc(0)));
    await gone(silent[0]!);
    const groups = [];
    for (let i = 0; i < 3; i++) groups.push(await side.bring(head(0, 2, Buffer.alloc(16, i))));
    await gone(groups[0]!);
    const complete = await side.bring(head(1, 2, Buffer.alloc(16, 2)));
    const far = (await side.listener.accept())!;
    await side.listener.close();
    // What was given out goes on; what was waiting is gone.
    await Promise.all([gone(silent[2]!), gone(groups[1]!)]);
    const near = stripedConnection([groups[2]!, complete]);
    await near.write([Buffer.from("still here")]);
    await near.end();
    expect((await readAll(far.input)).toString()).toBe("still here");
    await near.destroy();
  });
});

describe("several connections as one", () => {
  const pair = () => {
    const pairs = Array.from({ length: 3 }, () => memoryPair());
    return { nears: pairs.map(([near]) => near), fars: pairs.map(([, far]) => far) };
  };

  test("break where one of them breaks", async () => {
    const { nears, fars } = pair();
    const [near, far] = [stripedConnection(nears), stripedConnection(fars)];
    const reading = errorOf(readAll(far.input));
    await near.write([Buffer.from("one"), Buffer.alloc(200_000)]);
    await nears[1]!.destroy(new LinkError("cut"));
    expect(await reading).toHaveProperty("code", "link");
    const writing = async () => {
      for (;;) await near.write([Buffer.alloc(100_000)]);
    };
    expect(await errorOf(writing())).toHaveProperty("code", "link");
    expect(await errorOf(far.write([Buffer.alloc(1)]))).toHaveProperty("code", "link");
    await Promise.all([near.destroy(), far.destroy()]);
    expect(await errorOf(readAll(nears[0]!.input))).toBeInstanceOf(Error);
  });

  test("one that stalls stops the sender, and nothing is lost", async () => {
    const { nears, fars } = pair();
    const gate = Promise.withResolvers<void>();
    const stalled = async function* () {
      await gate.promise;
      yield* fars[1]!.input;
    };
    const far = stripedConnection([fars[0]!, { ...fars[1]!, input: stalled() }, fars[2]!]);
    const near = stripedConnection(nears);
    const bytes = bytesOf("stall", 12 << 20);
    let written = 0;
    const sending = (async () => {
      for (; written < bytes.length; written += 1 << 20)
        await near.write([bytes.subarray(written, written + (1 << 20))]);
      await near.end();
    })();
    const reading = readAll(far.input);
    for (let before = -1; before !== written; await sleep(30)) before = written;
    expect(written).toBeLessThan(6 << 20);
    gate.resolve();
    expect(same(await reading, bytes)).toBe(true);
    await sending;
    await Promise.all([near.destroy(), far.destroy()]);
  });

  test("can only be had of what takes several", async () => {
    const { transport } = at("exec:true");
    expect(() => stripedTransport(transport, 2)).toThrow(/exec: has only one/);
    stripedTransport(at("tcp://a:1").transport, 16);
    expect(() => stripedTransport(at("tcp://a:1").transport, 17)).toThrow(/1 to 16/);
    const { address } = at("memory:nobody");
    expect(
      await errorOf(stripedTransport(at("memory:x").transport, 4).dial(address, { signal: never })),
    ).toHaveProperty("code", "link");
  });
});
