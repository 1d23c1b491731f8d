import { expect, test } from "bun:test";
import { acceptQueue } from "../../transports/accept.ts";
import { memoryPair } from "../../transports/memory.ts";

/** A connection, and whether it was dropped. */
function caller() {
  const [connection] = memoryPair();
  const made = { dropped: false, connection };
  const { destroy } = connection;
  connection.destroy = async (reason) => {
    made.dropped = true;
    await destroy(reason);
  };
  return made;
}

test("of a flood that nobody accepts 32 wait, and the others are dropped", async () => {
  const queue = acceptQueue();
  const callers = Array.from({ length: 100 }, caller);
  for (const { connection } of callers) queue.offer(connection);
  expect(callers.map(({ dropped }) => dropped)).toEqual(callers.map((_, i) => i >= 32));
  // Who was accepted makes room.
  expect(await queue.accept()).toBe(callers[0]!.connection);
  const [one, other] = [caller(), caller()];
  queue.offer(one.connection);
  queue.offer(other.connection);
  expect([one.dropped, other.dropped]).toEqual([false, true]);
  queue.close();
  expect(callers.slice(1).every(({ dropped }) => dropped)).toBe(true);
  expect([callers[0]!.dropped, one.dropped]).toEqual([false, true]);
  expect(await queue.accept()).toBeUndefined();
});
