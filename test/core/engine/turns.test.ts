import { describe, expect, test } from "bun:test";
import type { OutStream } from "../../../core/engine/out-stream.ts";
import { Turns } from "../../../core/engine/turns.ts";

type Streams = ReadonlyMap<number, OutStream>;

/** Streams by their ids, some of a service; all of them are ready but those in `waiting`. */
function streams(services: readonly (string | undefined)[], waiting: readonly number[] = []): Streams {
  return new Map(
    services.map((service, i) => {
      const id = i + 1;
      const stream = { id, info: { name: `s${id}`, format: "raw", service }, ready: !waiting.includes(id) };
      return [id, stream as unknown as OutStream];
    }),
  );
}

const take = (turns: Turns, all: Streams, count: number, idle = true) =>
  Array.from({ length: count }, () => turns.next(all, idle)?.id);

describe("turns", () => {
  test("go round", () => {
    expect(take(new Turns(), streams([undefined, "a", "b"]), 7)).toEqual([1, 2, 3, 1, 2, 3, 1]);
  });

  test("pass over who is not ready", () => {
    expect(take(new Turns(), streams([undefined, "a", "b", "c"], [1, 3]), 4)).toEqual([2, 4, 2, 4]);
    expect(take(new Turns(), streams([undefined], [1]), 1)).toEqual([undefined]);
  });

  test("are of urgent services alone, as long as these are ready", () => {
    const turns = new Turns();
    turns.hurry("a");
    expect(take(turns, streams([undefined, "a", "b", "a"]), 4)).toEqual([2, 4, 2, 4]);
    expect(take(turns, streams([undefined, "a", "b"], [2]), 3)).toEqual([1, 3, 1]);
    turns.hurry("b");
    expect(take(turns, streams([undefined, "a", "b"]), 3)).toEqual([2, 3, 2]);
    turns.calm("a");
    expect([turns.hurried, ...take(turns, streams([undefined, "a", "b"]), 2)]).toEqual([true, 3, 3]);
    turns.calm("b");
    expect([turns.hurried, ...take(turns, streams([undefined, "a", "b"]), 3)]).toEqual([false, 2, 3, 1]);
  });

  test("of others keep their order, whatever is urgent between them", () => {
    const turns = new Turns();
    turns.hurry("a");
    const [all, others] = [streams([undefined, "a", "b"]), streams([undefined, "a", "b"], [2])];
    const taken = Array.from({ length: 4 }, () => [...take(turns, all, 1), ...take(turns, others, 1)]);
    expect(taken).toEqual([
      [2, 1],
      [2, 3],
      [2, 1],
      [2, 3],
    ]);
  });

  test("are not of others while a batch is on its way and something is urgent", () => {
    const turns = new Turns();
    const all = streams([undefined, "a"], [2]);
    expect(take(turns, all, 1, false)).toEqual([1]);
    turns.hurry("a");
    expect(take(turns, all, 1, false)).toEqual([undefined]);
    expect(take(turns, all, 1, true)).toEqual([1]);
    expect(take(turns, streams([undefined, "a"]), 2, false)).toEqual([2, 2]);
  });
});
