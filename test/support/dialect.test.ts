// The part of bun:test that the tests of this project may use: it has to mean the same on Bun and, through the shim, on Deno.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, test } from "bun:test";

const log: string[] = [];

describe("hooks and order", () => {
  beforeAll(() => void log.push("beforeAll"));
  beforeEach(() => void log.push("beforeEach"));
  afterEach(() => void log.push("afterEach"));
  afterAll(() => void log.push("afterAll"));

  test("the first", () => {
    expect(log).toEqual(["beforeAll", "beforeEach"]);
  });
  describe("nested", () => {
    it("runs after the first", async () => {
      await Promise.resolve();
      expect(log).toEqual(["beforeAll", "beforeEach", "afterEach", "beforeEach"]);
    });
  });
});

test("hooks of a group end with it", () => {
  expect(log.at(-1)).toBe("afterAll");
});

describe("each", () => {
  const seen: unknown[] = [];
  test.each([
    [1, "one"],
    [2, "two"],
  ])("spreads an array: %d is %s", (number, name) => void seen.push(number, name));
  test.each([{ size: 3, name: "three" }])("hands over an object: $name", (row) => void seen.push(row.size, row.name));
  test.each(["four"])("hands over a value: %s", (value) => void seen.push(value));
  test("every row ran, in order", () => {
    expect(seen).toEqual([1, "one", 2, "two", 3, "three", "four"]);
  });
  describe.each([["a"], ["b"]])("a group for each: %s", (letter) => {
    test("has its row", () => expect(["a", "b"]).toContain(letter));
  });
});

describe("tests that do not run", () => {
  const fail = () => {
    throw new Error("this must not run");
  };
  test.skip("skip", fail);
  test.todo("todo", fail);
  test.if(false)("if", fail);
  test.skipIf(true)("skipIf", fail);
  describe.skipIf(true)("a group", () => test("in it", fail));
});

let ran = 0;
test.if(true)("if a condition holds", () => void ran++);
test.skipIf(false)("unless a condition holds", () => void ran++, 1_000);
test("both of them ran", () => {
  expect.assertions(1);
  expect(ran).toBe(2);
});

test("matchers", async () => {
  expect(new Uint8Array([1, 2])).toEqual(new Uint8Array([1, 2]));
  expect({ a: 1, b: { c: 2 } }).toMatchObject({ b: { c: 2 } });
  expect(() => {
    throw new RangeError("too long");
  }).toThrow(/long/);
  await expect(Promise.reject(new TypeError("no"))).rejects.toThrow(TypeError);
  await expect(Promise.resolve(3)).resolves.toBeGreaterThan(2);
  expect(["x"]).not.toContain("y");
});
