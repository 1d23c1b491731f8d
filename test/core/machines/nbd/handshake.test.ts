import { describe, expect, test } from "bun:test";
import { CancelledError } from "../../../../core/errors.ts";
import { type Answer, exportInfo, GREETING, optionReply, u16, u32 } from "../../../support/nbd-server.ts";
import { within } from "../../../support/session.ts";
import { failure, openPair } from "./connect.ts";

const bytes = Buffer.alloc(8192, "disk");
const ACK = (option: number) => optionReply(option, 1);
const context = (name: string) => optionReply(10, 4, Buffer.concat([u32(7), Buffer.from(name)]));
/** A server that answers one option in its own way. */
const answering = (which: number, answer: Answer) => ({
  bytes,
  option: (option: number) => (option === which ? answer : undefined),
});

describe("a handshake", () => {
  test("tells the disk's size, in whatever pieces it arrives", async () => {
    for (const split of [[1], [3], [18, 20], [1000]]) {
      await using pair = await openPair({ bytes, split });
      expect(pair.client.size).toBe(8192);
    }
  });

  test("is well with information that was not asked for, and with flags that it doesn't know", async () => {
    const info = Buffer.concat([
      optionReply(7, 3, Buffer.concat([u16(3), u32(1), u32(4096), u32(1 << 25)])),
      exportInfo(123, 0xffff),
      ACK(7),
    ]);
    await using pair = await openPair({
      ...answering(7, info),
      greeting: Buffer.concat([GREETING.subarray(0, 16), u16(0xffff)]),
    });
    expect(pair.client.size).toBe(123);
  });

  test.each([
    ["refuses the context", optionReply(10, 2 ** 31 + 1)],
    ["has no such context", ACK(10)],
  ])("with a server that %s: all is bytes", async (_, answer) => {
    await using pair = await openPair({ ...answering(10, answer), extents: [[8192, 2]] });
    expect(await pair.client.extents(4096, 4096)).toEqual([{ length: 4096, zeros: false }]);
    expect(pair.server.requests).toEqual([]);
  });

  test.each([
    ["is old", "newstyle", { greeting: Buffer.concat([GREETING.subarray(0, 16), u16(0)]) }],
    ["is older", "newstyle", { greeting: Buffer.concat([GREETING.subarray(0, 8), Buffer.alloc(144)]) }],
    ["has no structured replies", "structured", answering(8, optionReply(8, 2 ** 31 + 1))],
    ["can't send whole", "one chunk", answering(7, Buffer.concat([exportInfo(1, 1), ACK(7)]))],
    ["refuses with a reason", "no such disk", answering(7, optionReply(7, 2 ** 31 + 6, Buffer.from("no such disk")))],
    ["refuses without", "error 6", answering(7, optionReply(7, 2 ** 31 + 6))],
    ["ends at once", "closed the connection", { option: () => "end" as const }],
    ["ends within a reply", "closed the connection", { ...answering(8, null), greeting: GREETING.subarray(0, 17) }],
    ["is silent", "silent for 0.1 s", { option: () => null }],
  ])("with a server that %s is refused: %s", async (_, message, options) => {
    // A server that ends has said all that it will.
    const greeting = (options as { greeting?: Buffer }).greeting;
    const handshakeMs = message.includes("silent") || greeting?.length === 17 ? 100 : 10_000;
    const error = await failure(within(openPair({ bytes, ...options }, { handshakeMs })));
    expect(error.code).toBe("input");
    if (greeting?.length !== 17) expect(error.message).toContain(message);
    expect(error.message).toStartWith('Cannot read "disk": ');
  });
});
