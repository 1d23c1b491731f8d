import { describe, expect, test } from "bun:test";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import fc from "fast-check";
import { BufferPool } from "../../../core/content/buffer-pool.ts";
import { openPlainDigest, type PlainDigest } from "../../../core/content/plain-digest.ts";
import { plainHost } from "../../../core/content/worker-host.ts";
import { CancelledError } from "../../../core/errors.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const sha256 = (...parts: Uint8Array[]) => createHash("sha256").update(Buffer.concat(parts)).digest("hex");

async function using<T>(body: (digest: PlainDigest) => Promise<T>): Promise<T> {
  const digest = await openPlainDigest();
  try {
    return await body(digest);
  } finally {
    digest.close();
  }
}

describe("plain digest", () => {
  test("of nothing is that of the empty string", async () => {
    expect(hex(await using((digest) => digest.digest()))).toBe(sha256());
  });

  test("is SHA-256 of any sequence of bytes and zeros, whatever part of their buffers the bytes are", async () => {
    const part = fc.oneof(
      fc.nat(3_000_000).map((zeros) => ({ zeros })),
      fc.record({ bytes: fc.uint8Array({ maxLength: 9_000 }), before: fc.nat(64), after: fc.nat(64) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 8 }), fc.boolean(), async (parts, wanted) => {
        const plain = parts.map((p) => ("zeros" in p ? new Uint8Array(p.zeros) : p.bytes.slice()));
        const got = await using(async (digest) => {
          for (const [i, p] of parts.entries()) {
            if ("zeros" in p) digest.zeros(p.zeros);
            else {
              const buffer = new Uint8Array(p.before + p.bytes.length + p.after);
              buffer.set(p.bytes, p.before);
              const bytes = buffer.subarray(p.before, p.before + p.bytes.length);
              await digest.update(bytes, wanted && i % 2 === 0 ? () => {} : undefined);
            }
          }
          return digest.digest();
        });
        expect(hex(got)).toBe(sha256(...plain));
      }),
      { numRuns: 25 },
    );
  });

  test("keeps digests apart that are computed at the same time", async () => {
    const values = [1, 2, 3, 4, 5];
    const digests = await Promise.all(values.map(() => openPlainDigest()));
    for (let round = 0; round < 20; round++) {
      await Promise.all(digests.map((digest, i) => digest.update(new Uint8Array(70_000).fill(values[i]! + round))));
    }
    const results = await Promise.all(digests.map((digest) => digest.digest()));
    for (const digest of digests) digest.close();
    for (const [i, value] of values.entries()) {
      const rounds = Array.from({ length: 20 }, (_, round) => new Uint8Array(70_000).fill(value + round));
      expect(hex(results[i]!)).toBe(sha256(...rounds));
    }
  });

  test("a very long run of zeros doesn't hold up another digest, and can be given up", async () => {
    const long = await openPlainDigest();
    long.zeros(2 ** 50);
    const never = long.digest();
    const short = await using((digest) => {
      digest.zeros(5000);
      return digest.digest();
    });
    expect(hex(short)).toBe(sha256(new Uint8Array(5000)));
    long.close();
    await expect(never).rejects.toThrow(CancelledError);
  });

  test("gives buffers back whole and in order, and the slice of a shared buffer stays as it is", async () => {
    const order: number[] = [];
    const shared = new Uint8Array([9, 1, 2, 3, 9]);
    await using(async (digest) => {
      for (let i = 0; i < 5; i++) {
        void digest.update(new Uint8Array(1000 + i).subarray(1, 500), (buffer) => void order.push(buffer.byteLength));
      }
      await digest.update(shared.subarray(1, 4));
      await digest.digest();
    });
    expect(order).toEqual([1000, 1001, 1002, 1003, 1004]);
    expect([...shared]).toEqual([9, 1, 2, 3, 9]);
  });

  test("gives buffers back that it was given and then closed", async () => {
    const digest = await openPlainDigest();
    digest.zeros(2 ** 40);
    const back = new Promise<number>((resolve) => {
      void digest.update(new Uint8Array(1234), (buffer) => resolve(buffer.byteLength));
    });
    digest.close();
    expect(await back).toBe(1234);
    const late = await new Promise<Error | undefined>((resolve) => {
      void digest.update(new Uint8Array(1), (_, error) => resolve(error));
    });
    expect(late).toBeInstanceOf(CancelledError);
  });

  test("asks the thread for little at once, however many the runs of zeros are and however small the pieces", async () => {
    const host = await plainHost.enter();
    const { post } = host;
    let posts = 0;
    host.post = (request) => {
      posts++;
      post(request);
    };
    const digest = await openPlainDigest();
    try {
      // Long enough that nothing comes back meanwhile.
      for (let i = 0; i < 100_000; i++) digest.zeros(2 ** 30);
      expect(posts).toBe(0);
      let waits = false;
      for (let i = 0; i < 5000 && !waits; i++) {
        let done = false;
        void digest.update(new Uint8Array(1)).then(() => {
          done = true;
        });
        await new Promise(setImmediate);
        waits = !done;
        digest.zeros(1);
      }
      expect([waits, posts <= 2 * 2048]).toEqual([true, true]);
    } finally {
      digest.close();
      host.post = post;
      plainHost.leave();
    }
  });

  test("makes its caller wait when much is on its way", async () => {
    await using(async (digest) => {
      digest.zeros(2 ** 40);
      let waits = 0;
      for (let i = 0; i < 12; i++) {
        let done = false;
        void digest.update(new Uint8Array(1 << 20)).then(() => {
          done = true;
        });
        await new Promise(setImmediate);
        if (!done) waits++;
      }
      expect(waits).toBeGreaterThan(0);
      expect(waits).toBeLessThan(12);
    });
  });

  test("rejects when its thread dies, gives the buffers back, and the next has a new thread", async () => {
    const digest = await openPlainDigest();
    digest.zeros(2 ** 40);
    const lost = new Promise<[number, Error | undefined]>((resolve) => {
      void digest.update(new Uint8Array(77), (buffer, error) => resolve([buffer.byteLength, error]));
    });
    const never = digest.digest();
    const host = await plainHost.enter();
    host.post({ id: -1, kind: "bytes", buffer: new ArrayBuffer(8), start: 100, end: 200 });
    await expect(never).rejects.toThrow(/worker thread of this program ended/);
    const [size, error] = await lost;
    expect(size).toBe(77);
    expect(error?.message).toMatch(/worker thread/);
    digest.close();
    plainHost.leave();
    expect(hex(await using((next) => next.digest()))).toBe(sha256());
  });

  test("doesn't keep the process: not while it waits for input, nor after its result", async () => {
    const module = new URL("../../../core/content/plain-digest.ts", import.meta.url).href;
    const script = `
      const { openPlainDigest } = await import(${JSON.stringify(module)});
      await openPlainDigest();
      const digest = await openPlainDigest();
      await digest.update(new Uint8Array(3));
      console.log(Buffer.from(await digest.digest()).toString("hex"));`;
    const args = process.versions.bun ? ["-e", script] : ["eval", script];
    const started = performance.now();
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 20_000 });
    expect(stdout.trim()).toBe(sha256(new Uint8Array(3)));
    expect(performance.now() - started).toBeLessThan(20_000);
  }, 30_000);
});

describe("buffer pool", () => {
  test("hands out no more than it has, and serves who waits first", async () => {
    const pool = new BufferPool(2, 100);
    const [a] = [await pool.take(), await pool.take()];
    const order: number[] = [];
    const third = pool.take();
    void third.then(() => order.push(3));
    const fourth = pool.take();
    void fourth.then(() => order.push(4));
    await new Promise(setImmediate);
    expect(order).toEqual([]);
    a!.fill(7);
    pool.give(a!);
    expect((await third)[0]).toBe(7);
    expect(order).toEqual([3]);
    pool.give(new Uint8Array(3));
    expect((await fourth).byteLength).toBe(100);
  });

  test("rejects who waits, and who comes, once it is closed", async () => {
    const pool = new BufferPool(1, 10);
    await pool.take();
    const waiting = pool.take();
    pool.close(new CancelledError("enough"));
    await expect(waiting).rejects.toThrow("enough");
    await expect(pool.take()).rejects.toThrow("enough");
  });
});
