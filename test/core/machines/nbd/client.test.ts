import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { CancelledError } from "../../../../core/errors.ts";
import {
  type Answer,
  chunk,
  DISCONNECT,
  dataChunk,
  errorPayload,
  extentChunk,
  type NbdRequest,
  simple,
  u16,
  u32,
  u64,
} from "../../../support/nbd-server.ts";
import { within } from "../../../support/session.ts";
import { noise } from "../image/files.ts";
import { failure, openPair } from "./connect.ts";

const bytes = noise(100_000);
/** A server that answers reads and questions for extents in its own way. */
const answering = (answer: (request: NbdRequest) => Answer) => ({
  bytes,
  request: (request: NbdRequest) => (request.command === DISCONNECT ? undefined : answer(request)),
});
const hole = ({ handle, offset }: NbdRequest, length: number, shift = 0) =>
  chunk(handle, 2, Buffer.concat([u64(offset + shift), u32(length)]));
/** A chunk that is not the last of its reply. */
const open = (bytes: Buffer) => {
  const copy = Buffer.from(bytes);
  copy.writeUInt16BE(0, 4);
  return copy;
};

describe("reads", () => {
  test("give the disk's bytes, many at once, in whatever order and pieces the replies come", async () => {
    const requests = fc.array(fc.tuple(fc.nat(90_000), fc.integer({ min: 1, max: 10_000 })), {
      minLength: 1,
      maxLength: 8,
    });
    const split = fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(requests, split, fc.boolean(), async (requests, split, backwards) => {
        // Not by single bytes through all of it: that takes long.
        await using pair = await openPair({ bytes, split: [...split, 4096], backwards });
        const reads = requests.map(async ([offset, length]) => {
          const into = new Uint8Array(length);
          await pair.client.read(into, offset);
          return Buffer.compare(into, bytes.subarray(offset, offset + length));
        });
        expect(await within(Promise.all(reads))).toEqual(requests.map(() => 0));
      }),
      { numRuns: 60 },
    );
  });

  test("of more than may wait here go on when they are wanted", async () => {
    const large = noise(5 << 20, 4);
    await using pair = await openPair({ bytes: large });
    const into = new Uint8Array(large.length);
    await within(pair.client.read(into, 0));
    expect(Buffer.compare(into, large)).toBe(0);
  });

  test("ask for one chunk, and take it with its end apart, or as a hole", async () => {
    const apart = (request: NbdRequest) =>
      Buffer.concat([open(dataChunk(request, bytes)), chunk(request.handle, 0, Buffer.alloc(0))]);
    await using one = await openPair(answering(apart));
    const into = new Uint8Array(5000).fill(1);
    await one.client.read(into, 77);
    expect(Buffer.compare(into, bytes.subarray(77, 5077))).toBe(0);
    expect(one.server.requests[0]).toMatchObject({ flags: 4, command: 0, offset: 77, length: 5000 });
    await using other = await openPair(answering((request) => hole(request, request.length)));
    await other.client.read(into, 77);
    expect(into.every((byte) => byte === 0)).toBe(true);
  });
});

describe("extents", () => {
  test("are joined where they are alike, and may go beyond what was asked for", async () => {
    const extents = [
      [1000, 0],
      [50, 2],
      [50, 3],
      [400, 1],
      [90_000, 0],
    ] as const;
    await using pair = await openPair(answering(({ handle }) => extentChunk(handle, extents)));
    expect(await pair.client.extents(10, 1200)).toEqual([
      { length: 1000, zeros: false },
      { length: 100, zeros: true },
      { length: 90_400, zeros: false },
    ]);
  });
});

describe("a server", () => {
  const read = (answer: (request: NbdRequest) => Answer) => async () => {
    await using pair = await openPair(answering(answer));
    const into = new Uint8Array(4096);
    // Both fail, not only the one that was answered.
    const both = await Promise.all([pair.client.read(into, 8192), pair.client.extents(0, 5)].map(failure));
    const after = await failure(pair.client.read(into, 0));
    expect([both[0] === both[1], after === both[0]]).toEqual([true, true]);
    return both[0]!;
  };
  const status = (answer: (request: NbdRequest) => Answer) => async () => {
    await using pair = await openPair(answering(answer));
    return failure(pair.client.extents(8192, 4096));
  };
  const none = Buffer.alloc(0);
  test.each([
    ["answers without magic", read(() => Buffer.alloc(16))],
    ["answers nobody", read(({ handle }) => simple(handle + 100n, 5))],
    ["answers a handle of 64 bits", read(({ handle }) => simple(handle + 2n ** 32n, 5))],
    [
      "answers without structure",
      read(({ handle, length }) => Buffer.concat([simple(handle, 0), Buffer.alloc(length)])),
    ],
    ["sends too much", read(({ handle }) => chunk(handle, 1, none, true, 2 ** 32 - 1))],
    ["sends too little", read(({ handle, offset }) => chunk(handle, 1, Buffer.concat([u64(offset), Buffer.alloc(9)])))],
    ["sends less than an offset", read(({ handle }) => chunk(handle, 1, u32(0)))],
    ["sends other bytes", read((request) => dataChunk({ ...request, offset: 0 }, bytes))],
    [
      "sends bytes twice",
      read((request) => Buffer.concat([open(dataChunk(request, bytes)), dataChunk(request, bytes)])),
    ],
    ["sends a shorter hole", read((request) => hole(request, 4095))],
    ["sends a hole elsewhere", read((request) => hole(request, 4096, 1))],
    ["sends a hole without a length", read(({ handle, offset }) => chunk(handle, 2, u64(offset)))],
    ["ends without bytes", read(({ handle }) => chunk(handle, 0, none))],
    ["ends with bytes", read(({ handle }) => chunk(handle, 0, u32(1)))],
    ["never ends", read(({ handle }) => chunk(handle, 0, none, false))],
    ["answers a read with extents", read(({ handle }) => extentChunk(handle, [[4096, 0]]))],
    ["sends a chunk of a strange type", read(({ handle }) => chunk(handle, 99, none))],
    ["tells an error at length", read(({ handle }) => chunk(handle, 0x8001, none, true, 5000))],
    ["tells an error too shortly", read(({ handle }) => chunk(handle, 0x8001, u32(5)))],
    [
      "tells errors without end",
      read(({ handle }) => Buffer.concat(Array(9).fill(chunk(handle, 0x8001, errorPayload(5, ""), false)))),
    ],
    ["tells no extents", status(({ handle }) => extentChunk(handle, []))],
    ["tells half an extent", status(({ handle }) => chunk(handle, 5, Buffer.concat([u32(1), u32(4096)])))],
    ["tells 2^17 + 1 extents", status(({ handle }) => chunk(handle, 5, none, true, 4 + 8 * (2 ** 17 + 1)))],
    ["tells an error in a byte too many", read(({ handle }) => chunk(handle, 0x8001, none, true, 4096 + 15))],
    ["tells a million extents", status(({ handle }) => chunk(handle, 5, none, true, 4 + 8 * 2 ** 20))],
    [
      "tells empty extents",
      status(({ handle }) =>
        extentChunk(handle, [
          [0, 0],
          [4096, 0],
        ]),
      ),
    ],
    [
      "tells extents beyond the end",
      status(({ handle }) =>
        extentChunk(handle, [
          [4096, 0],
          [100_000, 2],
        ]),
      ),
    ],
    ["tells of another context", status(({ handle }) => extentChunk(handle, [[4096, 0]], 2))],
    ["tells extents twice", status(({ handle }) => Buffer.concat(Array(9).fill(open(extentChunk(handle, [[1, 0]])))))],
    ["answers a question with bytes", status((request) => dataChunk(request, bytes))],
  ])("that %s breaks the protocol", async (_, use) => {
    const error = await within(use());
    expect(error.name).toBe("ProtocolError");
    expect(error.message).toContain('Cannot read "disk": its NBD server breaks the protocol: ');
  });

  test.each([
    ["simply", ({ handle }: NbdRequest) => simple(handle, 5), "input/output error"],
    ["in a chunk", ({ handle }: NbdRequest) => chunk(handle, 0x8001, errorPayload(5, "")), "input/output error"],
    ["in words", ({ handle }: NbdRequest) => chunk(handle, 0x8001, errorPayload(5, "no disk")), "no disk"],
    ["in many", ({ handle }: NbdRequest) => chunk(handle, 0x8001, errorPayload(5, "x".repeat(4096))), "x".repeat(200)],
    [
      "with an offset",
      ({ handle }: NbdRequest) => chunk(handle, 0x8002, Buffer.concat([errorPayload(12, ""), u64(1)])),
      "out of memory",
    ],
    ["of its own", ({ handle }: NbdRequest) => chunk(handle, 0xffff, errorPayload(77, "")), "error 77"],
    [
      "with a wrong length",
      ({ handle }: NbdRequest) => chunk(handle, 0x8001, Buffer.concat([u32(5), u16(9)])),
      "input",
    ],
    [
      "after the bytes",
      (request: NbdRequest) =>
        Buffer.concat([open(dataChunk(request, bytes)), chunk(request.handle, 0x8001, errorPayload(5, "late"))]),
      "late",
    ],
  ])("may tell an error %s, and goes on", async (_, answer, message) => {
    let asked = 0;
    await using pair = await openPair(answering((request) => (asked++ === 0 ? answer(request) : undefined)));
    const into = new Uint8Array(100);
    const error = await failure(within(pair.client.read(into, 4096)));
    expect(error.code).toBe("input");
    expect(error.message).toContain(`Cannot read "disk": ${message}`);
    expect(error.message).toMatch(/, at byte 4096 of the disk$/);
    await pair.client.read(into, 4096);
    expect(Buffer.compare(into, bytes.subarray(4096, 4196))).toBe(0);
  });

  test("that ends is told why, by who knows", async () => {
    const explain = async () => Object.assign(new CancelledError("it had enough"));
    await using pair = await openPair(
      answering(() => "end"),
      { explain },
    );
    const reads = [0, 10].map((offset) => failure(pair.client.read(new Uint8Array(10), offset)));
    expect((await within(Promise.all(reads))).map(({ message }) => message)).toEqual([
      "it had enough",
      "it had enough",
    ]);
  });

  test("that is silent can be left", async () => {
    await using pair = await openPair(answering(() => null));
    const pending = failure(pair.client.read(new Uint8Array(10), 0));
    setTimeout(() => pair.client.interrupt(new CancelledError("by hand")), 20);
    expect((await within(pending)).message).toBe("by hand");
    expect((await failure(pair.client.extents(0, 10))).message).toBe("by hand");
    await within(pair.client.close());
  });

  test("is told when it is left, also after an interruption that interrupted nothing", async () => {
    await using pair = await openPair({ bytes });
    await pair.client.read(new Uint8Array(10), 0);
    pair.client.interrupt(new CancelledError("by hand"));
    expect((await failure(pair.client.read(new Uint8Array(10), 0))).message).toBe("by hand");
    await within(pair.client.close());
    expect(pair.server.requests.map(({ command }) => command)).toEqual([0, DISCONNECT]);
    await within(pair.client.close());
  });
});
