// Words that are wrong: too many, too late, twice, of nobody, or of the other end.
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ProtocolError, ShrinkerError } from "../../../core/errors.ts";
import { Mailbox } from "../../../core/handover/source/mailbox.ts";
import {
  type DestinationWord,
  decodeDestinationWord,
  decodeSourceWord,
  encodeWord,
  type SourceWord,
} from "../../../core/wire/handover.ts";
import { within } from "../../support/session.ts";
import { ends, never } from "./ends.ts";
import { ID, stage } from "./staged.ts";

const migration = Buffer.from(ID, "hex");
const machine: Extract<SourceWord, { type: "prepare" }>["machine"] = {
  ...{ machine: "fake-10.0", ramBytes: 1 << 20, vcpus: 1, accelerator: "tcg" },
  qemu: { major: 10, minor: 0, micro: 2 },
};
const why = { code: "link", message: "\u001b[31mred\nline" } as const;

test("a word is read as it was written, by the end that it is for", () => {
  const source: SourceWord[] = [
    { type: "prepare", migration, name: "web", machine, paused: false },
    { type: "cancel", migration, ...why },
    ...(["go", "settle", "recover", "confirm"] as const).map((type) => ({ type, migration })),
  ];
  const destination: DestinationWord[] = [
    ...(["prepared", "loaded", "cancelled", "running", "whole"] as const).map((type) => ({ type, migration })),
    ...(["refused", "failed"] as const).map((type) => ({ type, migration, ...why })),
    { type: "settled", migration, state: "lost" },
  ];
  for (const word of source) {
    expect(decodeSourceWord(encodeWord(word))).toEqual(word);
    expect(() => decodeDestinationWord(encodeWord(word))).toThrow(ProtocolError);
  }
  for (const word of destination) {
    expect(decodeDestinationWord(encodeWord(word))).toEqual(word);
    expect(() => decodeSourceWord(encodeWord(word))).toThrow(ProtocolError);
  }
});

test("what is no word is told apart", () => {
  const good = encodeWord({ type: "prepare", migration, name: "web", machine, paused: false });
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bad = Buffer.from(good);
      bad[at]! ^= change;
      try {
        decodeSourceWord(bad);
      } catch (error) {
        expect(error).toBeInstanceOf(ProtocolError);
      }
    }),
    { numRuns: 200 },
  );
  for (const part of [{ migration: Buffer.alloc(15) }, { name: "" }, { name: "x".repeat(257) }, { paused: 1 }])
    expect(() =>
      decodeSourceWord(encodeWord({ type: "prepare", migration, name: "w", machine, ...part } as never)),
    ).toThrow(ProtocolError);
});

describe("a talk", () => {
  const open = () => {
    const mailbox = new Mailbox();
    return { mailbox, talk: mailbox.open(migration, async () => {}) };
  };

  test("hears what is due, what is wrong, and nothing else", async () => {
    const { mailbox, talk } = open();
    mailbox.take(encodeWord({ type: "prepared", migration: Buffer.alloc(16) }));
    const hearing = talk.hear(["prepared"], { signal: never });
    mailbox.take(encodeWord({ type: "prepared", migration }));
    expect((await hearing).type).toBe("prepared");

    mailbox.take(encodeWord({ type: "failed", migration, ...why }));
    expect(() => talk.check()).toThrow("The destination says: ");
    const wrong = await talk.hear(["loaded"], { signal: never }).catch((error) => error);
    expect([wrong.code, wrong.message]).toEqual(["link", "The destination says:  [31mred line"]);
    talk.check();

    mailbox.take(encodeWord({ type: "loaded", migration }));
    expect(await talk.hear(["running"], { signal: never }).catch((error) => error)).toBeInstanceOf(ProtocolError);
    for (const type of ["loaded", "prepared", "running"] as const) mailbox.take(encodeWord({ type, migration }));
    expect((await talk.hear(["running"], { signal: never, skip: true })).type).toBe("running");
    const late = () => new ShrinkerError("link", "late");
    expect((await talk.hear(["running"], { signal: never, timeout: 1, late }).catch((error) => error)).message).toBe(
      "late",
    );
  });

  test("takes so many words, and none once it is closed", () => {
    const { mailbox, talk } = open();
    const say = () => mailbox.take(encodeWord({ type: "running", migration }));
    for (let i = 0; i < 16; i++) say();
    expect(say).toThrow(ProtocolError);
    mailbox.close(talk);
    say();
  });
});

/** A source made by hand: says words, and hears what is answered. */
async function by(there: ReturnType<Awaited<ReturnType<typeof ends>>["destination"]>) {
  const answers: DestinationWord[] = [];
  let wake = () => {};
  const session = there.arrivals.session(async (payload) => {
    answers.push(decodeDestinationWord(payload));
    wake();
  });
  return {
    session,
    answers,
    say: (word: SourceWord) => session.told(encodeWord(word)),
    /** The first `count` answers' types. */
    async heard(count: number): Promise<string[]> {
      while (answers.length < count)
        await within(
          new Promise<void>((resolve) => {
            wake = resolve;
          }),
          "answer",
        );
      return answers.map((word) => (word.type === "settled" ? word.state : word.type));
    },
  };
}

describe("a destination", () => {
  test("knows nothing of a migration that never began", async () => {
    await using pair = await ends();
    const peer = await by(pair.destination());
    for (const type of ["go", "settle", "confirm"] as const) peer.say({ type, migration });
    peer.say({ type: "cancel", migration, ...why });
    expect(await peer.heard(3)).toEqual(["failed", "unknown", "cancelled"]);
  });

  test("does each thing once, however often it is told", async () => {
    await using pair = await ends();
    const staged = await stage(pair, "given", "loaded");
    const there = pair.destination();
    await there.arrivals.recover();
    const peer = await by(there);
    for (const type of ["settle", "go", "go", "settle", "go"] as const) peer.say({ type, migration });
    // What comes too late.
    peer.say({ type: "cancel", migration, ...why });
    peer.say({ type: "settle", migration });
    const heard = ["loaded", "running", "running", "taken", "running", "taken"];
    expect(await peer.heard(6)).toEqual(heard);
    expect([pair.starts, staged.copy.runState]).toEqual([1, "running"]);
    for (const type of ["confirm", "confirm", "settle"] as const) peer.say({ type, migration });
    expect(await peer.heard(7)).toEqual([...heard, "unknown"]);
    expect(await peer.session.ended()).toEqual([{ name: "web", landed: true }]);
  });

  test("lets nothing run that is not loaded, or not any more", async () => {
    await using pair = await ends();
    const copy = await pair.place();
    const there = pair.destination();
    const peer = await by(there);
    peer.say({ type: "prepare", migration, name: "web", machine, paused: false });
    peer.say({ type: "go", migration });
    peer.say({ type: "cancel", migration, ...why });
    peer.say({ type: "go", migration });
    expect(await peer.heard(4)).toEqual(["prepared", "failed", "cancelled", "failed"]);
    expect<string>(copy.runState).toBe("shutdown");
    const [fate] = await peer.session.ended();
    expect([fate!.landed, fate!.error!.message]).toEqual([false, "The source keeps it:  [31mred line"]);
  });

  test("gets ready for one guest of a name at a time, and stops when the source doesn't want it any more", async () => {
    await using pair = await ends();
    await pair.place();
    const there = pair.destination();
    const [one, other] = [await by(there), await by(there)];
    const second = Buffer.alloc(16, 2);
    one.say({ type: "prepare", migration, name: "web", machine, paused: false });
    other.say({ type: "prepare", migration: second, name: "web", machine, paused: false });
    other.say({ type: "prepare", migration, name: "web", machine, paused: false });
    expect(await other.heard(2)).toEqual(["refused", "refused"]);
    expect(await one.heard(1)).toEqual(["prepared"]);
    // The session that it belongs to has ended.
    await one.session.ended();
    other.say({ type: "settle", migration });
    expect(await other.heard(3)).toEqual(["refused", "refused", "unknown"]);
  });

  test("takes so many words at once", async () => {
    await using pair = await ends();
    const peer = await by(pair.destination());
    for (let i = 0; i < 1024; i++) peer.say({ type: "settle", migration });
    expect(() => peer.say({ type: "settle", migration })).toThrow(ProtocolError);
    await peer.session.ended();
  });

  test("hears of so many guests in a session", async () => {
    await using pair = await ends();
    const peer = await by(pair.destination());
    const say = (i: number) =>
      peer.say({ type: "prepare", migration: Buffer.alloc(16, `${i} `), name: `vm${i}`, machine, paused: false });
    for (let i = 0; i < 4096; i++) {
      say(i);
      if (i % 512 === 511) await peer.heard(i + 1);
    }
    // Each was refused, which is told at the end.
    expect(() => say(4096)).toThrow(/more than 4096 guests/);
    expect(await peer.session.ended()).toHaveLength(4096);
  });

  test("offers connections to guests that it waits for, and to no others", async () => {
    await using pair = await ends();
    await stage(pair, "given", "loaded");
    const there = pair.destination();
    await there.arrivals.recover();
    const peer = await by(there);
    expect(peer.session.services(`vm:${ID}`)).toBeUndefined();
    await pair.place("db");
    const second = Buffer.alloc(16, 2);
    peer.say({ type: "prepare", migration: second, name: "db", machine, paused: false });
    await peer.heard(1);
    expect(peer.session.services(`vm:${second.toString("hex")}`)).toBeDefined();
    await peer.session.ended();
    expect(peer.session.services(`vm:${second.toString("hex")}`)).toBeUndefined();
  });
});
