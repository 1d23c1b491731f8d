import { expect, test } from "bun:test";
import { memoryPair } from "../../../transports/memory.ts";
import { stripedConnection } from "../../../transports/striped/connection.ts";

test("a direction sends segments of 64 KiB, and holds one for each connection that doesn't take it", async () => {
  const taken: number[] = [];
  const stuck = new Promise<never>(() => {});
  const lanes = [0, 1, 2].map(() => ({
    ...memoryPair()[0],
    async write(buffers: readonly Uint8Array[]) {
      taken.push(buffers.reduce((sum, { length }) => sum + length, 0));
      await stuck;
    },
  }));
  const connection = stripedConnection(lanes);
  const writing = connection.write([Buffer.alloc(1 << 20)]).catch((error: Error) => error.message);
  await new Promise((resolve) => setTimeout(resolve, 5));
  // Each has 8 bytes of a header.
  expect(taken).toEqual([65_544, 65_544, 65_544]);
  await connection.destroy(new Error("enough"));
  expect(await writing).toBe("enough");
});
