import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { pack } from "msgpackr";
import type { GenericSchema } from "valibot";
import { ERROR_CODES, ProtocolError } from "../../../core/errors.ts";
import * as control from "../../../core/wire/control.ts";

const { decodeControl, encodeControl } = control;

const bytes = (length: number, fill = 5) => new Uint8Array(length).fill(fill);
const u32 = { good: [0, 1, 0xffff_ffff], bad: [-1, 2 ** 32, 1.5, Number.NaN, "1", true, null, [1], undefined] };
const u53 = { good: [0, 2 ** 32, Number.MAX_SAFE_INTEGER], bad: [-1, 0.5, 2 ** 53, Infinity, "0", null, {}] };
const text = (most: number) => ({ good: ["", "a".repeat(most), "ü\u0000\n"], bad: ["a".repeat(most + 1), 1, null] });
const blob = (length: number) => ({ good: [bytes(length)], bad: [bytes(length - 1), bytes(length + 1), "x", null] });
const name = { good: ["a", "ü".repeat(256)], bad: ["", "a".repeat(257), 7, undefined] };
const code = { good: [...ERROR_CODES], bad: ["", "Usage", 3, "toString", "__proto__", undefined] };
const window = { good: [20, 27], bad: [19, 28, 20.5, "20", -20, undefined] };
const log = { good: [1, Number.MAX_SAFE_INTEGER], bad: [0, -1, 1.5, 2 ** 53, undefined] };
const optional = <T extends { good: unknown[] }>(field: T) => ({ ...field, good: [...field.good, undefined] });

/** Every frame that is a map: for each field values that it takes, and values that it does not. */
const FRAMES: Record<string, { schema: GenericSchema; fields: Record<string, { good: unknown[]; bad: unknown[] }> }> = {
  HELLO: {
    schema: control.Hello,
    fields: { session: blob(16), domain: name, window, log, software: text(256) },
  },
  WELCOME: { schema: control.Welcome, fields: { session: blob(16), window, log, software: text(256) } },
  OPEN: {
    schema: control.Open,
    fields: {
      stream: u32,
      name,
      format: text(32),
      size: optional(u53),
      mode: optional({ good: [0, 0o7777], bad: [0o10000, -1, 1.5, "644"] }),
      mtime: optional({ good: [-1.5, 0, 1e15], bad: [Number.NaN, Infinity, "now"] }),
    },
  },
  CLOSE: {
    schema: control.Close,
    fields: { stream: u32, length: u53, digest: blob(32), sha256: optional(blob(32)) },
  },
  RESET: { schema: control.Reset, fields: { stream: u32, code, message: text(2000) } },
  LANDED: { schema: control.Landed, fields: { stream: u32 } },
  ABORT: { schema: control.Abort, fields: { code, message: text(2000) } },
  DONE: { schema: control.Done, fields: { streams: u32 } },
};

const rows = Object.entries(FRAMES).map(([type, { schema, fields }]) => ({ type, schema, fields }));

/** The first good value of every field. */
function usual(fields: Record<string, { good: unknown[] }>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([key, { good }]) => [key, good[0]]));
}

/** Decodes, and checks that nothing but a short `ProtocolError` on one line comes of it, and soon. */
function refused(schema: GenericSchema, payload: Uint8Array): ProtocolError {
  const since = performance.now();
  let error: unknown;
  try {
    decodeControl(schema, payload);
  } catch (thrown) {
    error = thrown;
  }
  expect(performance.now() - since).toBeLessThan(2000);
  expect(error).toBeInstanceOf(ProtocolError);
  const { message } = error as ProtocolError;
  expect(message).toMatch(/^[ -~\u00a0-\u00ff]+$/);
  expect(message.length).toBeLessThan(300);
  return error as ProtocolError;
}

describe("control frames", () => {
  test.each(rows)("$type: every good value of every field is read as it was written", ({ schema, fields }) => {
    for (const [key, { good }] of Object.entries(fields)) {
      for (const value of good) {
        const written = { ...usual(fields), [key]: value };
        if (value === undefined) delete (written as Record<string, unknown>)[key];
        const read = decodeControl(schema, encodeControl(schema, written as never)) as Record<string, unknown>;
        expect(Object.keys(read).sort()).toEqual(Object.keys(written).sort());
        for (const [key, value] of Object.entries(written)) {
          if (value instanceof Uint8Array) expect(Buffer.compare(read[key] as Uint8Array, value)).toBe(0);
          else expect(read[key]).toBe(value);
        }
      }
    }
  });

  test.each(rows)("$type: a bad value of a field is refused by the field's name", ({ schema, fields }) => {
    for (const [key, { bad }] of Object.entries(fields)) {
      for (const value of bad) {
        expect(refused(schema, pack({ ...usual(fields), [key]: value })).message).toContain(`bad ${key}`);
      }
    }
  });

  test.each(rows)("$type: a missing field is refused, an unknown one is left out", ({ schema, fields }) => {
    for (const [key, { good }] of Object.entries(fields)) {
      const { [key]: _, ...rest } = usual(fields);
      if (good.includes(undefined)) decodeControl(schema, pack(rest));
      else expect(refused(schema, pack(rest)).message).toContain(`bad ${key}`);
    }
    expect(decodeControl(schema, pack({ ...usual(fields), later: [1, { a: 2 }] }))).not.toHaveProperty("later");
  });

  test.each([...rows.keys()].map((i) => [rows[i]!.type, rows[i]!]))(
    "%s: a payload that is cut anywhere is refused",
    (_, row) => {
      const payload = pack(usual(row.fields));
      for (let length = 0; length < payload.length; length++) refused(row.schema, payload.subarray(0, length));
      refused(row.schema, Buffer.concat([payload, payload]));
    },
  );

  const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
  const key = "a7 73747265616d73"; // "streams"
  const hostile: [string, Buffer][] = [
    ["no bytes", Buffer.alloc(0)],
    ["a number", hex("03")],
    ["an array", hex("9103")],
    ["arrays within arrays", Buffer.alloc(65_536, 0x91)],
    ["maps within maps", hex("81a161".repeat(21_845))],
    ["arrays within a map", Buffer.concat([hex(`81 ${key}`), Buffer.alloc(65_000, 0x91)])],
    ["an array of 4 billion", hex(`81 ${key} ddffffffff`)],
    ["a map of 4 billion", hex("dfffffffff")],
    ["a text of 4 billion bytes", hex(`81 ${key} dbffffffff`)],
    ["bytes of 4 billion bytes", hex(`81 ${key} c6ffffffff`)],
    ["many large arrays", hex(`81 ${key} ${"ddfffffff0".repeat(13_000)}`)],
    ["many middling arrays", hex(`81 ${key} ${"dcffff".repeat(21_000)}`)],
    ["an integer of half a million bits", Buffer.concat([hex(`81 ${key} c8fff042`), Buffer.alloc(0xfff0, 0x7f)])],
    ["a date", hex(`81 ${key} d6ff00000000`)],
    ["a set", hex(`81 ${key} d4730091 03`)],
    ["a pattern", hex(`81 ${key} d4780092 a3612b62 a0`)],
    ["an error", hex(`81 ${key} d4650093 a1 45 a161 c0`)],
    ["an unknown extension", hex(`81 ${key} d4550000`)],
    ["a record instead of a map", hex(`d4724091 ${key} 03`)],
    ["a NaN", hex(`81 ${key} cb7ff8000000000000`)],
    ["a number above 2^63", hex(`81 ${key} cfffffffffffffffff`)],
    ["a number below 0", hex(`81 ${key} ff`)],
    ["a text instead of a number", hex(`81 ${key} a133`)],
    ["keys that are maps", hex(`82 80 01 ${key} 03`)],
    ["the key twice, the last one bad", hex(`82 ${key} 03 ${key} a133`)],
    ["a byte that MessagePack has not", hex(`81 ${key} c1`)],
    ["what would end a line", Buffer.concat([hex(`81 ${key}`), pack("\n\u001b[2J\u0085".repeat(5000))])],
    ["texts kept together, cut", hex("d6620000ffff81a161c1")],
  ];
  test.each(hostile)("refuses %s, and reads on", (_, payload) => {
    refused(control.Done, payload);
    expect(decodeControl(control.Done, encodeControl(control.Done, { streams: 4 }))).toEqual({ streams: 4 });
  });

  test("keys that name parts of the language are keys", () => {
    const proto = (key: string) => Buffer.concat([hex("82"), pack(key), hex(`81 a1610a a7 73747265616d73 03`)]);
    for (const key of ["__proto__", "constructor", "prototype", "toString"]) {
      const read = decodeControl(control.Done, proto(key));
      expect(read).toEqual({ streams: 3 });
      expect(Object.getPrototypeOf(read)).toBe(Object.prototype);
      expect((read as { a?: unknown }).a).toBe(undefined);
    }
    expect(({} as { a?: unknown }).a).toBe(undefined);
    // A field is not found in the prototype either.
    refused(control.Abort, pack({ code: "constructor", message: "" }));
  });

  test("random and changed bytes are read or refused", () => {
    const good = rows.map(({ schema, fields }) => [schema, pack(usual(fields))] as const);
    const random = fc.tuple(fc.constantFrom(...good), fc.uint8Array({ maxLength: 200 })).map(([[schema], bytes]) => {
      return [schema, Buffer.concat([Buffer.of(0x80 | (bytes.length & 15)), bytes])] as const;
    });
    const changed = fc.tuple(fc.constantFrom(...good), fc.nat(), fc.nat(255)).map(([[schema, payload], at, value]) => {
      const bytes = Buffer.from(payload);
      bytes[at % bytes.length] = value;
      return [schema, bytes] as const;
    });
    fc.assert(
      fc.property(fc.oneof(random, changed), ([schema, payload]) => {
        try {
          decodeControl(schema, payload);
        } catch (error) {
          if (!(error instanceof ProtocolError)) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("frames of fixed layout", () => {
  test("CREDIT, WANT, RESOLVED and CONTENT are read as they were written", () => {
    const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
    const u53 = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
    fc.assert(
      fc.property(u32, u53, (stream, total) => {
        expect(control.decodeCredit(control.encodeCredit(stream, total))).toEqual({ stream, total });
        expect(control.decodeNumber(control.encodeNumber(total))).toBe(total);
        const page = Buffer.alloc(4096, stream & 255);
        const content = control.decodeContent(Buffer.concat([control.encodeNumber(total), page]));
        expect(content.number).toBe(total);
        expect(Buffer.compare(content.page, page)).toBe(0);
      }),
    );
  });

  test("another length, or a number above 2^53, is refused", () => {
    for (const length of [0, 7, 8, 11, 13, 16, 4104]) {
      const payload = Buffer.alloc(length);
      if (length !== 8) expect(() => control.decodeNumber(payload)).toThrow(ProtocolError);
      expect(() => control.decodeCredit(payload)).toThrow(ProtocolError);
      if (length !== 4104) expect(() => control.decodeContent(payload)).toThrow(ProtocolError);
    }
    expect(() => control.decodeNumber(Buffer.alloc(8, 0xff))).toThrow(ProtocolError);
    expect(() => control.decodeCredit(Buffer.alloc(12, 0xff))).toThrow(ProtocolError);
    expect(() => control.decodeContent(Buffer.alloc(4104, 0xff))).toThrow(ProtocolError);
  });
});
