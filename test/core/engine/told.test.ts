import { expect, test } from "bun:test";
import { ResumableSessions } from "../../../core/engine/resumable.ts";
import { asShrinkerError, heard, refusal, told } from "../../../core/engine/told.ts";
import { LinkError, ShrinkerError } from "../../../core/errors.ts";
import { Abort, decodeControl, encodeControl, Reset, Resume } from "../../../core/wire/control.ts";
import { FrameReader } from "../../../core/wire/frame.ts";
import { FRAME } from "../../../core/wire/numbers.ts";

test("a message is cut to 2000 by who sends it, and refused where it is longer", () => {
  const { message } = told(new ShrinkerError("input", "x".repeat(5000)));
  expect(message).toBe("x".repeat(2000));
  for (const [schema, more] of [
    [Abort, {}],
    [Reset, { stream: 1 }],
  ] as const) {
    const payload = (length: number) =>
      encodeControl(schema, { code: "input", message: "x".repeat(length), ...more } as never);
    expect(decodeControl(schema, payload(2000)).message).toBe(message);
    expect(() => decodeControl(schema, payload(2001))).toThrow("bad message");
  }
});

test("a refusal is a direction with nothing but an ABORT", async () => {
  async function* input() {
    yield refusal(new ShrinkerError("refused", "not you"));
  }
  const reader = new FrameReader(input(), "test");
  await reader.preface();
  const frame = (await reader.next())!;
  expect(frame.type).toBe(FRAME.ABORT);
  expect(decodeControl(Abort, frame.payload)).toEqual({ code: "refused", message: "not you" });
  expect(await reader.next()).toBeUndefined();
});

test("what a peer says has nothing that a terminal or a log would obey", () => {
  const said = "it is\x1b[2J\x1b]0;title\x07 full\r\nshrinker: all is well\u2028\u2029\x9b31m\0";
  const { code, message } = heard("space", said, "The other end gave up: ");
  expect(code).toBe("space");
  expect(message).toBe("The other end gave up: it is [2J ]0;title  full shrinker: all is well 31m ");
});

test("what is no error of ours is a bug", () => {
  expect(asShrinkerError("text")).toMatchObject({ code: "bug", message: "text" });
  expect(told(new RangeError("beyond"))).toEqual({ code: "bug", message: "beyond" });
});

const id = (n: number) => {
  const session = Buffer.alloc(16);
  session.writeUInt32LE(n);
  return { session, secret: Buffer.alloc(32, 1 + (n % 200)) };
};

test("so many sessions can be resumed, and no more", () => {
  const sessions = new ResumableSessions(3);
  const kept = [1, 2, 3].map((n) => sessions.register(id(n)));
  expect(kept.every((one) => one !== undefined)).toBe(true);
  expect(sessions.register(id(4))).toBeUndefined();
  // Nor can one take another's name.
  kept[0]!.remove();
  expect(sessions.register(id(2))).toBeUndefined();
  expect(sessions.register(id(4))).toBeDefined();
  expect(sessions.size).toBe(3);
});

test("1024 sessions of a process can be resumed unless it is said otherwise", () => {
  const sessions = new ResumableSessions();
  const kept = Array.from({ length: 1025 }, (_, n) => sessions.register(id(n)) !== undefined);
  expect(kept.lastIndexOf(true)).toBe(1023);
  expect(sessions.size).toBe(1024);
});

test("failures are kept for the last 64 sources that were away", () => {
  const sessions = new ResumableSessions();
  const COUNT = 100;
  for (let n = 0; n < COUNT; n++) sessions.register(id(n))!.remove(new LinkError(`session ${n} was given up`));
  const answers = Array.from({ length: COUNT }, (_, n) => {
    try {
      const payload = encodeControl(Resume, { ...id(n), received: 0 });
      sessions.resume(payload, () => {
        throw new Error("it was resumed");
      });
    } catch (error) {
      return (error as ShrinkerError).message;
    }
    return undefined;
  });
  answers.forEach((answer, n) => {
    expect(answer).toMatch(n < COUNT - 64 ? /does not know that session/ : `session ${n} was given up`);
  });
  expect(sessions.size).toBe(0);
});
