import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { DIGEST_SIZE, PAGE_SIZE } from "../../../core/content/page.ts";
import { PageWorker } from "../../../core/content/page-worker.ts";
import { pageHost, SharedHost } from "../../../core/content/worker-host.ts";

const MOST = 64;

function pagesOf(count: number): { memory: ArrayBuffer; expected: Buffer } {
  const bytes = new Uint8Array(MOST * PAGE_SIZE);
  bytes.set(randomBytes(count * PAGE_SIZE));
  const digests = Array.from({ length: count }, (_, i) =>
    createHash("sha256")
      .update(bytes.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE))
      .digest(),
  );
  return { memory: bytes.buffer, expected: Buffer.concat(digests) };
}

const digestsOf = () => new ArrayBuffer(MOST * DIGEST_SIZE);

describe("pages are digested", () => {
  const shared = new SharedHost();
  const early = new PageWorker(new SharedHost());
  let worker!: PageWorker;
  beforeAll(async () => {
    await shared.enter();
    worker = new PageWorker(shared);
  });
  afterAll(() => {
    early.close();
    worker.close();
    shared.leave();
  });

  test.each([1, 15, 16, 63, 64])("%d of them, with their memory given back", async (count) => {
    for (const [one, threaded] of [
      [early, false],
      [worker, count >= 16],
    ] as const) {
      const { memory, expected } = pagesOf(count);
      const before = Buffer.from(memory.slice(0));
      const digesting = one.digest(memory, count, digestsOf());
      // On its way to the thread.
      expect(memory.byteLength === 0).toBe(threaded);
      const { pages, digests } = await digesting;
      expect(Buffer.compare(Buffer.from(digests, 0, expected.length), expected)).toBe(0);
      expect(Buffer.compare(Buffer.from(pages), before)).toBe(0);
    }
  });

  test("in the order in which they are given", async () => {
    const jobs = [64, 3, 40, 16, 1, 64].map(pagesOf);
    const order: number[] = [];
    const results = jobs.map(async ({ memory, expected }, i) => {
      const { digests } = await worker.digest(memory, expected.length / DIGEST_SIZE, digestsOf());
      order.push(i);
      return Buffer.compare(Buffer.from(digests, 0, expected.length), expected);
    });
    expect(jobs.every(({ memory }) => memory.byteLength === 0)).toBe(true);
    expect(await Promise.all(results)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(order).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

test("a thread is started for who has much to do, stays for others who find it there, and ends after them", async () => {
  const shared = new SharedHost();
  const worker = new PageWorker(shared);
  const pages = (count: number) => new ArrayBuffer(count * PAGE_SIZE);
  await worker.digest(pages(2047), 2047, new ArrayBuffer(2047 * DIGEST_SIZE));
  await worker.pack(pages(1), 1, 1);
  expect(shared.started).toBe(false);
  await worker.pack(pages(1), 1, 1);
  expect(shared.started).toBe(true);
  const other = new PageWorker(shared);
  await shared.enter();
  shared.leave();
  worker.close();
  // Longer than it outlives its last user.
  await new Promise((resolve) => setTimeout(resolve, 1300));
  expect(shared.started).toBe(true);
  const { memory, expected } = pagesOf(64);
  const digesting = other.digest(memory, 64, digestsOf());
  expect(memory.byteLength).toBe(0);
  expect(Buffer.compare(Buffer.from((await digesting).digests, 0, expected.length), expected)).toBe(0);
  other.close();
  await new Promise((resolve) => setTimeout(resolve, 1300));
  expect(shared.started).toBe(false);
});

test("a worker that is closed rejects what is on its way, and what comes after", async () => {
  await pageHost.enter();
  const worker = new PageWorker();
  const other = new PageWorker();
  await new Promise((resolve) => setTimeout(resolve));
  const away = worker.digest(pagesOf(64).memory, 64, digestsOf()).then(
    () => "resolved",
    (error) => error.code,
  );
  worker.close();
  worker.close();
  expect(await away).toBe("cancelled");
  await expect(worker.digest(pagesOf(1).memory, 1, digestsOf())).rejects.toThrow("not wanted");
  const { memory, expected } = pagesOf(64);
  const { digests } = await other.digest(memory, 64, digestsOf());
  expect(Buffer.compare(Buffer.from(digests, 0, expected.length), expected)).toBe(0);
  other.close();
  pageHost.leave();
});

test("a thread that ends rejects what is on its way", async () => {
  const host = await pageHost.enter();
  const worker = new PageWorker();
  await new Promise((resolve) => setTimeout(resolve));
  // Long enough not to be done before.
  const away = worker.digest(new ArrayBuffer(8192 * PAGE_SIZE), 8192, new ArrayBuffer(8192 * DIGEST_SIZE));
  host.stop();
  await expect(away).rejects.toThrow("thread");
  worker.close();
  pageHost.leave();
});
