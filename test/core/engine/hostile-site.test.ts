import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { acceptSession } from "../../../core/engine/destination-session.ts";
import type { DestinationSite, SiteMemory } from "../../../core/engine/site.ts";
import { ShrinkerError } from "../../../core/errors.ts";
import { nothingHere } from "../../../core/site/nothing.ts";
import {
  Abort,
  decodeControl,
  encodeControl,
  encodeNumber,
  encodeSummaryPiece,
  Hello,
  Open,
  type SiteInfo,
  Summarize,
} from "../../../core/wire/control.ts";
import { COLUMN, FRAME, MAX_SUMMARY, SUMMARY_PIECE } from "../../../core/wire/numbers.ts";
import { OpWriter } from "../../../core/wire/ops.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { destinationOptions, memoryTarget, send, source, within } from "../../support/session.ts";
import { noise } from "./contents.ts";
import { HandPeer, handMade } from "./wire.ts";

const INFO: SiteInfo = {
  id: Buffer.alloc(16, 1),
  generation: Buffer.alloc(16, 2),
  contents: 3,
  logs: [{ session: Buffer.alloc(16, 3), length: 3 }],
};
const sha256 = (page: Uint8Array) => createHash("sha256").update(page).digest();

/** A site whose one log has three contents, of which none is there any more. */
async function emptied(): Promise<DestinationSite> {
  return {
    ...(await nothingHere(undefined)),
    info: INFO,
    past(first, count, target, at) {
      if (first < 0 || first + count > 3) throw new ShrinkerError("integrity", "no such past content");
      for (let i = 0; i < count; i++) target.set(sha256(noise(first + i)), at + i * 32);
    },
    summary: async () => Buffer.alloc(SUMMARY_PIECE + 10, 7),
  };
}

/** A batch of PASTs: the digest is what these contents make. */
function pasts(numbers: readonly number[]) {
  const writer = new OpWriter(numbers.length);
  writer.reset(0);
  for (const number of numbers) writer.past(number);
  writer.finish();
  return handMade({
    ops: numbers.map((number) => ({ known: noise(number) })),
    change(_header, columns) {
      columns[COLUMN.OPS] = Buffer.from(writer.ops);
      columns[COLUMN.ARGUMENTS] = Buffer.from(writer.args);
      columns[COLUMN.DIGESTS] = undefined;
    },
  }).payload;
}

/** A destination whose source is made by hand. */
async function meetSource(openSite = emptied as () => Promise<DestinationSite>) {
  const [near, far] = memoryPair();
  const peer = new HandPeer(near);
  const files = memoryTarget();
  const accepting = acceptSession(far, { ...destinationOptions, target: files, openSite });
  await peer.hello({ log: 100 });
  const running = (await accepting).run().catch((error) => error);
  await peer.expect(FRAME.WELCOME);
  const open = () => peer.send(FRAME.OPEN, encodeControl(Open, { stream: 1, name: "s", format: "raw" }));
  const refused = async (message: RegExp) => {
    const error = await within(running);
    expect(error).toBeInstanceOf(ShrinkerError);
    expect(error.code).toBe("integrity");
    expect(error.message).toMatch(message);
    expect(decodeControl(Abort, (await within(peer.expect(FRAME.ABORT))).payload).code).toBe("integrity");
  };
  return { peer, files, open, refused };
}

describe("a source may not", () => {
  test("refer to past contents where there are none", async () => {
    const { peer, open, refused } = await meetSource(() => nothingHere(undefined));
    await open();
    await peer.expect(FRAME.CREDIT);
    await peer.send(FRAME.BATCH, pasts([0]));
    await refused(/earlier sessions/);
  });

  test.each([[[3]], [[1, 2, 3]], [[0, 2 ** 40]]])("refer to past contents that no log has: %j", async (numbers) => {
    const { peer, open, refused } = await meetSource();
    await open();
    await peer.expect(FRAME.CREDIT);
    await peer.send(FRAME.BATCH, pasts(numbers));
    await refused(/past content/);
  });

  test("give another content for a past one than the log says", async () => {
    const { peer, open, refused } = await meetSource();
    await open();
    await peer.expect(FRAME.CREDIT);
    await peer.send(FRAME.BATCH, pasts([1]));
    expect(Buffer.compare((await within(peer.expect(FRAME.WANT))).payload, encodeNumber(0))).toBe(0);
    await peer.send(FRAME.CONTENT, Buffer.concat([encodeNumber(0), noise(2)]));
    await refused(/differs from the digest/);
  });

  test("ask for a summary twice, or behind its first stream, or of nothing", async () => {
    const ask = encodeControl(Summarize, { bits: 8 });
    const twice = await meetSource();
    await twice.peer.send(FRAME.SUMMARIZE, ask);
    await within(twice.peer.expect(FRAME.SUMMARY));
    await twice.peer.send(FRAME.SUMMARIZE, ask);
    await twice.refused(/summary where none is due/);
    const late = await meetSource();
    await late.open();
    await late.peer.send(FRAME.SUMMARIZE, ask);
    await late.refused(/summary where none is due/);
    const nothing = await meetSource(() => nothingHere(undefined));
    await nothing.peer.send(FRAME.SUMMARIZE, ask);
    await nothing.refused(/summary where none is due/);
  });

  test("ask for another number of bits", async () => {
    const { peer, refused } = await meetSource();
    await peer.send(FRAME.SUMMARIZE, Buffer.from([0x81, 0xa4, ...Buffer.from("bits"), 32]));
    await refused(/bad bits/);
  });
});

test("a past content that is gone is asked for, once, and then lands", async () => {
  const { peer, files, open } = await meetSource();
  await open();
  await peer.expect(FRAME.CREDIT);
  await peer.send(FRAME.BATCH, pasts([2, 0]));
  for (const [number, page] of [
    [0, noise(2)],
    [1, noise(0)],
  ] as const) {
    expect(Buffer.compare((await within(peer.expect(FRAME.WANT))).payload, encodeNumber(number))).toBe(0);
    await peer.send(FRAME.CONTENT, Buffer.concat([encodeNumber(number), page]));
  }
  expect(Buffer.compare((await within(peer.expect(FRAME.RESOLVED))).payload, encodeNumber(2))).toBe(0);
  expect(Buffer.compare(files.get("s").bytes, Buffer.concat([noise(2), noise(0)]))).toBe(0);
  await peer.connection.destroy();
});

/** Has the destination summarise what it holds. */
const curious: SiteMemory = {
  async meet(_site, _session, summarize) {
    await summarize(8);
    return { past: undefined, index: undefined, keepers: [], async close() {} };
  },
};

/** A source whose destination is made by hand. */
async function meetDestination(site: object, memory = curious) {
  const [near, far] = memoryPair();
  const peer = new HandPeer(far);
  const failing = send(near, [source("a", "raw", [noise(1)])], { memory }).catch((error) => error);
  const hello = decodeControl(Hello, (await peer.expect(FRAME.HELLO)).payload);
  await peer.welcome(hello.session, { site: site as SiteInfo });
  const refused = async (message: RegExp) => {
    const error = await within(failing);
    expect(error).toBeInstanceOf(ShrinkerError);
    expect(error.code).toBe("integrity");
    expect(error.message).toMatch(message);
  };
  return { peer, refused };
}

describe("a destination may not", () => {
  const piece = (total: number, offset: number, bytes: number) =>
    encodeSummaryPiece(total, offset, Buffer.alloc(bytes, 1));

  test.each([
    ["too long", [piece(2 ** 31, 0, 10)]],
    ["a byte too long", [piece(MAX_SUMMARY + 1, 0, 10)]],
    ["empty", [Buffer.alloc(8)]],
    ["that begins in the middle", [piece(100, 10, 10)]],
    ["whose pieces overlap", [piece(100, 0, 50), piece(100, 40, 60)]],
    ["that grows", [piece(100, 0, 50), piece(200, 50, 60)]],
    ["whose piece is longer than the whole", [piece(10, 0, 11)]],
    ["whose piece is too large", [piece(SUMMARY_PIECE * 2, 0, SUMMARY_PIECE + 1)]],
  ])("send a summary %s", async (_, pieces) => {
    const { peer, refused } = await meetDestination(INFO);
    await peer.expect(FRAME.SUMMARIZE);
    for (const payload of pieces) await peer.send(FRAME.SUMMARY, payload);
    await refused(/SUMMARY|type 24/);
  });

  test("but a summary may come byte by byte", async () => {
    const summary = Buffer.from("a summary in many pieces");
    const got = Promise.withResolvers<Uint8Array>();
    const memory: SiteMemory = {
      async meet(_site, _session, summarize) {
        got.resolve(await summarize(8));
        return { past: undefined, index: undefined, keepers: [], async close() {} };
      },
    };
    const { peer } = await meetDestination(INFO, memory);
    await peer.expect(FRAME.SUMMARIZE);
    for (let i = 0; i < summary.length; i++)
      await peer.send(FRAME.SUMMARY, encodeSummaryPiece(summary.length, i, summary.subarray(i, i + 1)));
    expect(Buffer.from(await within(got.promise)).toString()).toBe("a summary in many pieces");
    await peer.connection.destroy();
  });

  test("say something else instead of a summary", async () => {
    const { peer, refused } = await meetDestination(INFO);
    await peer.expect(FRAME.SUMMARIZE);
    await peer.send(FRAME.WANT, encodeNumber(0));
    await refused(/type 21 where none is due/);
  });

  test.each([
    ["more logs than there may be", { ...INFO, logs: Array.from({ length: 65 }, () => INFO.logs[0]) }],
    ["a log of a negative length", { ...INFO, logs: [{ session: Buffer.alloc(16), length: -1 }] }],
    ["an id of another length", { ...INFO, id: Buffer.alloc(15) }],
  ])("claim %s", async (_, site) => {
    const { refused } = await meetDestination(site);
    await refused(/bad site/);
  });
});
