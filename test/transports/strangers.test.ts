import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Strangers } from "../../transports/strangers.ts";

describe("strangers", () => {
  test("the oldest is dropped for one too many, and nobody twice", () => {
    const dropped: string[] = [];
    const held = new Strangers<string>((one) => dropped.push(one), 2);
    for (const one of ["a", "b", "c"]) held.add(one);
    expect(dropped).toEqual(["a"]);
    expect([...held]).toEqual(["b", "c"]);
    expect(held.release("b")).toBe(true);
    expect(held.release("b")).toBe(false);
    for (const one of ["a", "b"]) held.drop(one);
    expect(dropped).toEqual(["a"]);
    held.drop("c");
    expect(dropped).toEqual(["a", "c"]);
    expect([...held]).toEqual([]);
  });

  test("are 64, where nobody says otherwise", () => {
    const dropped: number[] = [];
    const held = new Strangers<number>((one) => dropped.push(one));
    for (let one = 1; one <= 64; one++) held.add(one);
    expect(dropped).toEqual([]);
    held.add(65);
    expect(dropped).toEqual([1]);
  });

  test("are as many as may be at most, and each is held, released or dropped", () => {
    const deeds = fc.array(fc.tuple(fc.constantFrom("add", "drop", "release"), fc.nat(30)), { maxLength: 60 });
    fc.assert(
      fc.property(deeds, fc.integer({ min: 1, max: 5 }), (acts, most) => {
        let model: number[] = [];
        const [expected, dropped]: [number[], number[]] = [[], []];
        const held = new Strangers<number>((one) => dropped.push(one), most);
        for (const [deed, one] of acts) {
          const there = model.includes(one);
          if (deed === "add" && there) continue;
          if (deed === "add") held.add(one);
          else if (deed === "drop") held.drop(one);
          else expect(held.release(one)).toBe(there);
          if (deed === "add") model.push(one);
          else model = model.filter((other) => other !== one);
          if (deed === "drop" && there) expected.push(one);
          if (model.length > most) expected.push(model.shift()!);
          expect([...held]).toEqual(model);
          expect(dropped).toEqual(expected);
        }
      }),
    );
  });

  test("one that is dropped may let itself go, and others in", () => {
    const held: Strangers<number> = new Strangers((one) => {
      expect(held.release(one)).toBe(false);
      if (one < 3) held.add(one + 10);
    }, 2);
    for (const one of [1, 2, 3]) held.add(one);
    expect([...held]).toEqual([11, 12]);
  });
});
