import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ProtocolError } from "../../../../core/errors.ts";
import { encodeLine, JsonLines } from "../../../../core/machines/qemu/json-lines.ts";

/** Gives `bytes` in pieces of these lengths, in turn. */
function parse(bytes: Uint8Array, split: readonly number[], most?: number): unknown[] {
  const lines = new JsonLines(most);
  const values: unknown[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const end = at + split[turn % split.length]!;
    lines.push(bytes.subarray(at, end), (value) => values.push(value));
    at = end;
  }
  return values;
}

const thrown = (text: string, most?: number) => {
  try {
    parse(Buffer.from(text), [7], most);
  } catch (error) {
    return error as Error;
  }
  return undefined;
};

describe("lines of JSON", () => {
  test("come out whole, in whatever pieces they arrive", () => {
    const some = fc.array(fc.jsonValue(), { maxLength: 8 });
    const split = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(some, split, fc.constantFrom("\n", "\r\n", "\n \n"), (values, lengths, end) => {
        const text = values.map((value) => JSON.stringify(value) + end).join("");
        expect(parse(Buffer.from(text), lengths).map(encodeLine)).toEqual(
          values.map((value) => `${JSON.stringify(value)}\n`),
        );
      }),
      { numRuns: 200 },
    );
  });

  test("keep 64-bit integers, there and back", () => {
    const line = '{"a":9223372036854775807,"b":-9223372036854775808,"c":[9007199254740991],"d":1.5}\n';
    const [value] = parse(Buffer.from(line), [100]);
    expect(value).toEqual({ a: 2n ** 63n - 1n, b: -(2n ** 63n), c: [2 ** 53 - 1], d: 1.5 });
    expect(encodeLine(value)).toBe(line);
  });

  test("are copied as they come: a peer that sends single bytes takes no more memory than they are", () => {
    const lines = new JsonLines();
    const values: unknown[] = [];
    const piece = new Uint8Array(1);
    for (const byte of Buffer.from('{"a": "piece by piece"}\n[2]\n')) {
      piece[0] = byte;
      lines.push(piece, (value) => values.push(value));
    }
    expect(values).toEqual([{ a: "piece by piece" }, [2]]);
  });

  test("may be as long as allowed, and no longer, complete or not", () => {
    const text = JSON.stringify("x".repeat(98));
    expect(parse(Buffer.from(`${text}\n${text}\n`), [9], 100)).toHaveLength(2);
    for (const end of ["\n", ""]) expect(thrown(`"x${text.slice(1)}${end}`, 100)?.message).toContain("100 bytes");
  });

  test("have 4 MiB at most unless it is said otherwise", () => {
    const line = (bytes: number) => Buffer.from(`"${"x".repeat(bytes - 2)}"\n`);
    expect(parse(line(4 << 20), [1 << 20])).toHaveLength(1);
    expect(() => parse(line((4 << 20) + 1), [1 << 20])).toThrow(ProtocolError);
  });

  test.each([
    ["another protocol's", "HTTP/1.1 400 Bad Request\n"],
    ["a part of a value", "{\n"],
    ["two values", '{"a":1} {"b":2}\n'],
    ["nested without end", `${"[".repeat(1 << 20)}\n`],
    ["binary", "\x00\xff\n"],
  ])("can't be %s", (_, text) => {
    const error = thrown(text);
    expect(error).toBeInstanceOf(ProtocolError);
    expect(error!.message.length).toBeLessThan(100);
  });
});
