import { describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { memoryPair } from "../../transports/memory.ts";
import { bytesOf, dial, errorOf, listen, readAll, same } from "../transports/helpers.ts";
import { corruptAt, cutAfter, type Fault, faulty, fragment, latency, stall } from "./faults.ts";
import { startRelay } from "./relay.ts";

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
const through = (fault: Fault, bytes: Uint8Array) => readAll(fault(one(bytes)));

describe("faults", () => {
  test("fragments are the same bytes, and the same for a seed", () =>
    fc.assert(
      fc.asyncProperty(fc.integer(), fc.uint8Array({ minLength: 1, maxLength: 20_000 }), async (seed, bytes) => {
        const lengths = async () => {
          const found: number[] = [];
          for await (const piece of fragment(seed, 100)(one(bytes))) found.push(piece.length);
          return found.join();
        };
        expect(same(await through(fragment(seed, 100), bytes), bytes)).toBe(true);
        expect(await lengths()).toBe(await lengths());
      }),
      { numRuns: 30 },
    ));

  test("one byte is wrong, and only there", async () => {
    const bytes = bytesOf("right", 1000);
    const wrong = await through((input) => corruptAt(517)(fragment(3, 50)(input)), bytes);
    expect(wrong.length).toBe(1000);
    expect([...wrong].flatMap((byte, i) => (byte === bytes[i] ? [] : [i]))).toEqual([517]);
  });

  test("a cut gives the bytes before it, and breaks both ends", async () => {
    const [near, far] = memoryPair();
    const cut = faulty(near, { output: [cutAfter(1000)] });
    const writing = errorOf(
      (async () => {
        for (;;) await cut.write([Buffer.alloc(300)]);
      })(),
    );
    let length = 0;
    await errorOf(
      (async () => {
        for await (const piece of far.input) length += piece.length;
      })(),
    );
    expect(length).toBe(1000);
    expect((await writing).message).toMatch(/cut the connection after 1000 bytes/);
    expect((await errorOf(readAll(cut.input))).message).toMatch(/cut/);
  });

  test("latency delays each way, keeps the order and the bytes", async () => {
    const [near, far] = memoryPair();
    const slow = faulty(near, { input: [latency(40)], output: [latency(40)] });
    const bytes = bytesOf("slow", 2_000_000);
    const start = performance.now();
    const echo = readAll(far.input).then(async (all) => {
      await far.write([all]);
      await far.end();
    });
    const [got] = await Promise.all([readAll(slow.input), slow.write([bytes]).then(() => slow.end()), echo]);
    expect(same(got, bytes)).toBe(true);
    expect(performance.now() - start).toBeGreaterThan(78);
  });

  test("a stall is silence, and destroy ends it", async () => {
    const [near, far] = memoryPair();
    const silence = stall();
    const stalled = faulty(near, { input: [silence.fault] });
    const iterator = stalled.input[Symbol.asyncIterator]();
    silence.on();
    await far.write([Buffer.from("a")]);
    const first = iterator.next();
    expect(await Promise.race([first, sleep(50)])).toBe(undefined);
    silence.off();
    expect(Buffer.from((await first).value).toString()).toBe("a");
    silence.on();
    await far.write([Buffer.from("b")]);
    const second = errorOf(iterator.next());
    const reason = new Error("enough");
    await stalled.destroy(reason);
    expect(await second).toBe(reason);
  });

  test("a relay carries, cuts and refuses links", async () => {
    const listener = await listen("memory:behind the relay");
    const relay = await startRelay({ to: "memory:behind the relay", listen: "memory:relay" });
    const link = async () => [await dial(relay.address), (await listener.accept())!] as const;
    const [near, far] = await link();
    await near.write([Buffer.from("question")]);
    await near.end();
    expect((await readAll(far.input)).toString()).toBe("question");
    await far.write([Buffer.from("answer")]);
    await far.end();
    expect((await readAll(near.input)).toString()).toBe("answer");
    const [cut, cutFar] = await link();
    const failing = [errorOf(readAll(cut.input)), errorOf(readAll(cutFar.input))];
    await relay.cut();
    for (const error of await Promise.all(failing)) expect(error).toHaveProperty("code", "link");
    relay.refuse(true);
    expect(await errorOf(readAll((await dial(relay.address)).input))).toHaveProperty("code", "link");
    relay.refuse(false);
    const [again, againFar] = await link();
    expect(relay.links).toBe(4);
    await Promise.all([again.destroy(), againFar.destroy(), relay.close(), listener.close()]);
  });
});
