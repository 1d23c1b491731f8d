import { describe, expect, test } from "bun:test";
import { BufferPool } from "../../../core/content/buffer-pool.ts";

const SIZE = 100;

/** Whether a promise is settled after everything that was due has run. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  promise.then(
    () => {
      done = true;
    },
    () => {
      done = true;
    },
  );
  await new Promise((resolve) => setTimeout(resolve, 1));
  return done;
}

describe("buffer pool", () => {
  test("gives out as many buffers as it has, each of its own memory", async () => {
    const pool = new BufferPool(2, SIZE);
    const [a, b] = [await pool.take(), await pool.take()];
    for (const buffer of [a, b]) expect([buffer.length, buffer.buffer.byteLength]).toEqual([SIZE, SIZE]);
    expect(a.buffer).not.toBe(b.buffer);
    const third = pool.take();
    expect(await settled(third)).toBe(false);
    pool.give(a);
    expect(await third).toBe(a);
  });

  test("who waits longest is served first", async () => {
    const pool = new BufferPool(1, SIZE);
    const buffer = await pool.take();
    const order: number[] = [];
    const waiting = [1, 2, 3].map(async (i) => {
      const taken = await pool.take();
      order.push(i);
      pool.give(taken);
    });
    pool.give(buffer);
    await Promise.all(waiting);
    expect(order).toEqual([1, 2, 3]);
  });

  test("what was transferred, or comes back in another size, is replaced", async () => {
    const pool = new BufferPool(1, SIZE);
    const strange = [
      (buffer: Uint8Array) => {
        structuredClone(buffer, { transfer: [buffer.buffer as ArrayBuffer] });
        return buffer;
      },
      (buffer: Uint8Array) => buffer.subarray(1),
      () => new Uint8Array(SIZE + 1),
      () => new Uint8Array(SIZE * 2).subarray(0, SIZE),
    ];
    for (const back of strange) {
      pool.give(back(await pool.take()));
      const again = await pool.take();
      expect([again.byteLength, again.buffer.byteLength]).toEqual([SIZE, SIZE]);
      pool.give(again);
    }
    // The one that came back in its place is as good.
    const [own, other] = [await pool.take(), new Uint8Array(SIZE)];
    pool.give(other);
    expect(await pool.take()).toBe(other);
    expect(own.byteLength).toBe(SIZE);
  });

  test("closed, it rejects with the reason of the first close, and takes nothing back", async () => {
    const pool = new BufferPool(1, SIZE);
    const buffer = await pool.take();
    const waiting = pool.take();
    waiting.catch(() => {});
    pool.close(new Error("first"));
    pool.close(new Error("second"));
    await expect(waiting).rejects.toThrow("first");
    pool.give(buffer);
    await expect(pool.take()).rejects.toThrow("first");
  });
});
