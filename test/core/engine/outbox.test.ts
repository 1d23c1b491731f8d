import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { KeptFrames } from "../../../core/engine/kept-frames.ts";
import { Outbox } from "../../../core/engine/outbox.ts";
import { LinkError, ProtocolError } from "../../../core/errors.ts";
import type { Connection } from "../../../core/transport/transport.ts";
import { FRAME } from "../../../core/wire/numbers.ts";
import { recorder, within } from "../../support/session.ts";
import { splitFrames } from "./wire.ts";

const MIB = 1 << 20;
const ignore = { sending() {}, sent() {}, broken() {} };

/** The frames that were written to a connection, which has no preface. */
function framesOf(bytes: Buffer) {
  return splitFrames(Buffer.concat([Buffer.alloc(16), bytes])).map(({ start, type, payload }) => ({
    type,
    sequence: bytes.readUInt32LE(start - 16 + 8),
    payload: Buffer.from(payload).toString("hex"),
  }));
}

describe("kept frames", () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant("push" as const), type: fc.constantFrom(FRAME.ACK, FRAME.TELL, FRAME.BATCH) }),
    fc.record({ kind: fc.constant("take" as const) }),
    fc.record({
      kind: fc.constantFrom("acknowledge" as const, "rewind" as const),
      by: fc.integer({ min: -3, max: 9 }),
    }),
  );

  test("are those that are not acknowledged, in their order, around 2^32", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), fc.constantFrom(0, 1, 2 ** 32 - 3), (actions, first) => {
        const kept = new KeptFrames(first);
        const number = (at: number) => (first + at) >>> 0;
        const types: number[] = [];
        let low = 0;
        let next = 0;
        for (const action of actions) {
          if (action.kind === "push") {
            kept.push(action.type, number(types.length), [new Uint8Array(1), new Uint8Array(2)]);
            types.push(action.type);
          } else if (action.kind === "take") {
            expect(kept.pending()?.sequence).toBe(next < types.length ? number(next) : undefined);
            next = Math.min(next + 1, types.length);
          } else {
            const at = low + action.by;
            if (action.kind === "rewind") {
              expect(kept.reaches(number(at))).toBe(at >= low && at <= types.length);
              if (!kept.reaches(number(at))) continue;
              expect(kept.rewind(number(at))).toBe(at > low);
              next = low = at;
            } else if (at > types.length) {
              expect(() => kept.acknowledged(number(at - 1))).toThrow(ProtocolError);
            } else {
              expect(kept.acknowledged(number(at - 1))).toBe(at > low);
              low = Math.max(low, at);
              next = Math.max(next, low);
            }
          }
          expect(kept.due).toBe(number(next));
          expect(kept.bytes).toBe((types.length - low) * (3 + 128));
          expect(kept.settled).toBe(types.slice(low).every((type) => type === FRAME.ACK));
        }
      }),
    );
  });
});

describe("what was said", () => {
  test("is said again to another connection, as it was, before anything else", async () => {
    const [one, two] = [recorder(), recorder()];
    const outbox = new Outbox(one.connection, ignore);
    await outbox.control(FRAME.HELLO, Buffer.of(1));
    outbox.keep();
    const reused = Buffer.of(2);
    await outbox.bulk(FRAME.BATCH, [reused, reused]);
    reused.fill(9);
    for (const word of [3, 4, 5]) await outbox.control(FRAME.TELL, Buffer.of(word));
    outbox.acknowledged(1);
    outbox.detach();
    const waiting = outbox.control(FRAME.TELL, Buffer.of(6));
    outbox.attach(two.connection, 3, []);
    await within(waiting);
    const [, , ...rest] = framesOf(one.bytes());
    expect(rest.map(({ payload }) => payload)).toEqual(["03", "04", "05"]);
    expect(framesOf(two.bytes())).toEqual([...rest.slice(1), { type: FRAME.TELL, sequence: 5, payload: "06" }]);
    // Of what the first connection had, the copy is said.
    outbox.detach();
    expect(outbox.reaches(2)).toBe(false);
  });

  test("is kept for a peer that acknowledges nothing up to 64 MiB; then who can wait does", async () => {
    let written = 0;
    const sink: Connection = {
      ...recorder().connection,
      async write(buffers) {
        for (const { length } of buffers) written += length;
      },
    };
    const outbox = new Outbox(sink, ignore);
    outbox.keep();
    const payload = new Uint8Array(4 * MIB);
    for (let i = 0; i < 16; i++) await outbox.bulk(FRAME.BATCH, [payload]);
    let said = false;
    const waiting = outbox.control(FRAME.TELL, new Uint8Array(1)).then(() => {
      said = true;
    });
    outbox.acknowledge(7);
    await new Promise((resolve) => setTimeout(resolve, 5));
    // Acknowledgements go on: the peer may wait for them.
    expect(written).toBe(16 * (4 * MIB + 20) + 24);
    expect(said).toBe(false);
    outbox.acknowledged(0);
    await within(waiting);
    // Not without end: a peer that has us grant credit for ever gets no more than 72 MiB of all.
    const before = written;
    const each = 128;
    const kept = 15 * (4 * MIB + 20 + each) + (24 + each) + (21 + each);
    const most = Math.ceil((72 * MIB - kept) / (32 + each));
    for (let granted = 0; granted < most + 500; granted += 100) {
      for (let stream = 0; stream < 100; stream++) outbox.credit(stream, Buffer.alloc(12));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(written - before).toBe(most * 32);
  });

  test("of acknowledgements and credits is only the latest of each, where the link waits", async () => {
    const one = recorder();
    const gate = Promise.withResolvers<void>();
    const slow: Connection = {
      ...one.connection,
      async write(buffers) {
        await one.connection.write(buffers);
        await gate.promise;
      },
    };
    const outbox = new Outbox(slow, ignore);
    const first = outbox.control(FRAME.TELL, Buffer.of(1));
    for (let i = 0; i < 10_000; i++) {
      outbox.acknowledge(i);
      outbox.credit(1 + (i % 2), Buffer.of(i & 255));
    }
    gate.resolve();
    await within(Promise.all([first, outbox.control(FRAME.TELL, Buffer.of(2))]));
    const said = framesOf(one.bytes()).map(({ type, payload }) => [type, payload]);
    expect(said).toEqual([
      [FRAME.TELL, "01"],
      [FRAME.ACK, "0f270000"],
      [FRAME.CREDIT, "0e"],
      [FRAME.CREDIT, "0f"],
      [FRAME.TELL, "02"],
    ]);
  });

  test("last takes the number of what will not be said again", async () => {
    const [one, two] = [recorder(), recorder()];
    const outbox = new Outbox(one.connection, ignore);
    outbox.keep();
    for (const word of [1, 2, 3]) await outbox.control(FRAME.TELL, Buffer.of(word));
    const gate = Promise.withResolvers<void>();
    const slow: Connection = {
      ...two.connection,
      async write(buffers) {
        await two.connection.write(buffers);
        await gate.promise;
      },
    };
    outbox.attach(slow, 0, []);
    const last = outbox.last(FRAME.ABORT, Buffer.of(9), new LinkError("over"));
    gate.resolve();
    await within(last);
    expect(framesOf(two.bytes())).toEqual([
      { type: FRAME.TELL, sequence: 0, payload: "01" },
      { type: FRAME.ABORT, sequence: 1, payload: "09" },
    ]);
  });

  test("ends on each connection after everything", async () => {
    const [one, two] = [recorder(), recorder()];
    const outbox = new Outbox(one.connection, ignore);
    outbox.keep();
    void outbox.control(FRAME.DONE, Buffer.of(1));
    await within(outbox.end());
    expect(one.ended).toBe(true);
    outbox.attach(two.connection, 0, []);
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect([framesOf(two.bytes()).length, two.ended]).toEqual([1, true]);
  });
});
