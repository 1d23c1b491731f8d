import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ShrinkerError } from "../../../../core/errors.ts";
import { checkStreamName, parseMachine } from "../../../../core/machines/image/name.ts";

function refusal(name: string): ShrinkerError {
  try {
    checkStreamName(name);
  } catch (error) {
    if (error instanceof ShrinkerError) return error;
  }
  throw new Error(`not refused: ${JSON.stringify(name)}`);
}

describe("checkStreamName", () => {
  test.each([["disk.qcow2"], ["a b"], [".hidden"], ["..."], ["é"], ["x".repeat(255)], ["a=b:c"], ["-"]])(
    "takes a plain name (%#)",
    (name) => expect(checkStreamName(name)).toBe(name),
  );

  test.each([
    [""],
    ["."],
    [".."],
    ["a/b"],
    ["../x"],
    ["/etc/passwd"],
    ["a\0b"],
    ["a\nb"],
    ["\x1b[31m"],
    ["a\x7f"],
    ["a\x9bb"],
    ["a\u2028b"],
    ["a\u202eb"],
    ["\ud800"],
    ["é".repeat(128)],
    [".x.0123456789abcdef.shrinker-partial"],
    [".shrinker-spool-1"],
  ])("refuses what is not (%#)", (name) => expect(refusal(name).code).toBe("refused"));

  test("names what it refuses on one line, without what could garble a terminal", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => {
        const { message } = refusal(text + "/\x1b\n\u202e");
        expect(message).not.toMatch(/[\p{Cc}\p{Cs}\u2028\u2029\u202e]/u);
        expect(message.length).toBeLessThan(900);
      }),
      { numRuns: 200 },
    );
    expect(refusal("a\nb").message).toContain('"a\\u{a}b"');
  });
});

describe("parseMachine", () => {
  test.each([
    ["disk.img", undefined, "disk.img"],
    ["vm1=/var/disk.img", "vm1", "/var/disk.img"],
    ["vm1=a=b", "vm1", "a=b"],
    ["./a=b", undefined, "./a=b"],
    ["/x/a=b", undefined, "/x/a=b"],
    ["./x:y", undefined, "./x:y"],
    ["-", "stdin", "-"],
    ["vm=-", "vm", "-"],
    ["qmp:/run/a=b", undefined, "qmp:/run/a=b"],
    ["fake:one?memory=256M&dirty=8M", undefined, "fake:one?memory=256M&dirty=8M"],
    ["web=fake:one?memory=256M", "web", "fake:one?memory=256M"],
  ])("%s", (text, name, spec) => expect(parseMachine(text)).toEqual(name === undefined ? { spec } : { name, spec }));

  test.each([[""], ["vm="]])("refuses a lack of a machine as usage (%#)", (text) => {
    expect(() => parseMachine(text)).toThrow(/expected PATH or NAME=PATH/);
  });

  test.each([["=disk"], ["..=disk"], ["a\tb=disk"]])("refuses a name that can't be one (%#)", (text) => {
    expect(() => parseMachine(text)).toThrow(/is refused/);
  });
});
