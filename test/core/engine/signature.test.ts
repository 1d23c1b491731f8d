import { describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { CancelledError, type ShrinkerError } from "../../../core/errors.ts";
import { nothingHere } from "../../../core/site/nothing.ts";
import { decodeControl, encodeControl, Hello, Signature } from "../../../core/wire/control.ts";
import { type Frame, FrameReader, frameHeader, preface } from "../../../core/wire/frame.ts";
import { FRAME } from "../../../core/wire/numbers.ts";
import {
  memoryTarget,
  migrate,
  player,
  type Receiving,
  receive,
  record,
  replay,
  source,
  within,
} from "../../support/session.ts";
import { signer } from "../../support/signer.ts";
import { bytesOf, errorOf } from "../../transports/helpers.ts";

const DISK = bytesOf("disk", 3 * 4096 + 100);
const RECIPIENT = new Uint8Array(32).fill(7);
const ours = signer([RECIPIENT]);
const make = (signed = ours, name = "disk.raw") => record([source(name, "raw", [DISK])], { signed, domain: "test" });
const signed = await make();

async function framesOf(bytes: Uint8Array): Promise<Frame[]> {
  const reader = new FrameReader(player(bytes).input, "test", true);
  await reader.preface();
  const frames: Frame[] = [];
  for (let frame = await reader.next(); frame; frame = await reader.next()) frames.push(frame);
  return frames;
}

/** A recording of frames, numbered anew, with checksums that are right. */
function recordingOf(frames: readonly Pick<Frame, "type" | "payload">[]): Buffer {
  const parts = frames.flatMap(({ type, payload }, i) => [frameHeader(type, i, [payload]), payload]);
  return Buffer.concat([preface(), ...parts]);
}

const frames = await framesOf(signed);
const [last] = frames.slice(-1) as [Frame];
const signature = decodeControl(Signature, last.payload);

/** What a recording is refused with; nothing of it may have landed. */
async function refusal(bytes: Uint8Array, options: Receiving = {}, padded = false): Promise<ShrinkerError> {
  const files = memoryTarget();
  const error = await errorOf(within(receive({ ...player(bytes), padded }, files, options)));
  for (const { ends } of files.all) expect(ends).toEqual(["abort"]);
  return error as ShrinkerError;
}

describe("a signed recording", () => {
  test("ends in its signature, and is read", async () => {
    expect(frames.map(({ type }) => type).slice(-2)).toEqual([FRAME.DONE, FRAME.SIGNATURE]);
    const files = memoryTarget();
    const asked: unknown[] = [];
    const { session } = await replay(signed, files, { checkSigner: (who) => asked.push(who?.key) });
    expect(files.get("disk.raw").ends).toEqual(["commit"]);
    expect(session.agreement.signed?.key).toBe(ours.key);
    expect(session.agreement.signed?.recipients.map((bytes) => [...bytes])).toEqual([[...RECIPIENT]]);
    expect(asked).toEqual([ours.key]);
  });

  test("with any byte changed, or cut anywhere, lands nothing", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(signed.length - 1), fc.integer({ min: 1, max: 255 }), async (at, bits) => {
        const wrong = Buffer.from(signed);
        wrong[at]! ^= bits;
        const { code } = await refusal(wrong);
        expect(["integrity", "refused"]).toContain(code);
        expect(await refusal(signed.subarray(0, at))).toHaveProperty("code", "integrity");
      }),
      { numRuns: 100 },
    );
  });

  test("with checksums that are right, but other contents, lands nothing", async () => {
    const hello = decodeControl(Hello, frames[0]!.payload);
    const with0 = (changed: typeof hello) => [
      { type: FRAME.HELLO, payload: encodeControl(Hello, changed) },
      ...frames.slice(1),
    ];
    const by = (key: string, bytes: Uint8Array) => [
      ...frames.slice(0, -1),
      { type: FRAME.SIGNATURE, payload: encodeControl(Signature, { key, signature: bytes }) },
    ];
    const theirs = signer();
    const other = (await framesOf(await make(ours, "other.raw"))).at(-1)!;
    const forged = (await framesOf(await make(theirs))).at(-1)!;
    const huge = { type: FRAME.SIGNATURE, payload: Buffer.alloc(1 << 20) };
    for (const [why, wrong] of [
      ["not what", with0({ ...hello, domain: "other" })],
      ["not what", with0({ ...hello, signed: { key: ours.key, recipients: [] } })],
      ["not what", with0({ ...hello, signed: { key: theirs.key, recipients: [] } })],
      ["not what", [...frames.slice(0, -1), other]],
      ["not what", [...frames.slice(0, -1), forged]],
      ["not what", by(theirs.key, signature.signature)],
      ["not what", by(ours.key, new Uint8Array(64))],
      ["bad key", by(`p256:${"A".repeat(43)}`, signature.signature)],
      ["bad signature", by(ours.key, new Uint8Array(63))],
      ["not what", by(`p256:${"A".repeat(44)}`, signature.signature)],
      ["breaks the protocol", [...frames.slice(0, -1), huge]],
      ["before its signature", frames.slice(0, -1)],
      ["frame of type 25 where none", [...frames.slice(0, -2), last]],
      ["frame of type 25 where none", [frames[0]!, last, ...frames.slice(1)]],
    ] as const) {
      const error = await refusal(recordingOf(wrong), { domain: undefined });
      expect([error.code, error.message.includes(why) ? why : error.message]).toEqual(["integrity", why]);
    }
  });

  test("lands nothing before its signature has come, however long that takes", async () => {
    for (const [last, expected] of [
      [signed.subarray(signed.length - 1), ["commit"]],
      [Buffer.of(signed.at(-1)! ^ 1), ["abort"]],
    ] as const) {
      const written = Promise.withResolvers<void>();
      const files = memoryTarget(() => ({ finish: async () => written.resolve() }));
      const input = async function* () {
        yield signed.subarray(0, -1);
        await written.promise;
        await sleep(20);
        expect(files.get("disk.raw").ends).toEqual([]);
        yield last;
      };
      await within(receive({ ...player(signed), input: input() }, files)).catch(() => {});
      expect(files.get("disk.raw").ends).toEqual([...expected]);
    }
  });

  test("is followed by nothing, unless it lies on a device", async () => {
    const again = Buffer.concat([frameHeader(FRAME.SIGNATURE, frames.length, [last.payload]), last.payload]);
    for (const more of [Buffer.of(0), again, signed, Buffer.alloc(1000)]) {
      const longer = Buffer.concat([signed, more]);
      expect(await refusal(longer)).toHaveProperty("code", "integrity");
      const files = memoryTarget();
      await within(receive({ ...player(longer), padded: true }, files));
      expect(files.get("disk.raw").ends).toEqual(["commit"]);
    }
  });

  test("whose beginning no longer says so is not signed", async () => {
    const { signed: _, ...hello } = decodeControl(Hello, frames[0]!.payload);
    const stripped = recordingOf([{ type: FRAME.HELLO, payload: encodeControl(Hello, hello) }, ...frames.slice(1)]);
    const { session } = await replay(stripped);
    expect(session.agreement.signed).toBe(undefined);
  });

  test("by somebody who is not wanted is refused before anything is opened", async () => {
    let opened = false;
    const refused = new CancelledError("not him");
    const error = await refusal(signed, {
      checkSigner: () => {
        throw refused;
      },
      openSite: async (against) => {
        opened = true;
        return nothingHere(against);
      },
    });
    expect(error).toBe(refused);
    expect(opened).toBe(false);
  });

  test("is disowned by the site unless its signature is right", async () => {
    for (const [bytes, expected] of [
      [signed, false],
      [signed.subarray(0, signed.length - 1), true],
    ] as const) {
      let disowned = false;
      const disown = () => {
        disowned = true;
      };
      const openSite: Receiving["openSite"] = async () => ({ ...(await nothingHere(undefined)), disown });
      await replay(bytes, memoryTarget(), { openSite }).catch(() => {});
      expect(disowned).toBe(expected);
    }
  });

  test("is made of recordings only: a link proves who is there by itself", async () => {
    const asked: unknown[] = [];
    const ends = { sending: { signed: ours }, receiving: { checkSigner: (who: unknown) => void asked.push(who) } };
    const { received } = await migrate([source("disk.raw", "raw", [DISK])], ends);
    expect(received.session.agreement.signed).toBe(undefined);
    expect(asked).toEqual([]);
  });
});
