import { join } from "node:path";
import { type Lock, takeLock } from "../files/lock.ts";
import type { Layout } from "./layout.ts";

/** Keeps others from removing contents. Rejects with `refused` where one is about it. */
export function lockForReading(dir: string, layout: Layout): Promise<Lock> {
  const removing = `Another shrinker removes contents from the store "${dir}": wait until it is done`;
  return takeLock(join(layout.folder, "readers"), false, removing);
}

/** Keeps all others out, as contents are going to be removed. Rejects with `refused` where somebody writes or reads. */
export async function lockForRemoval(dir: string, layout: Layout): Promise<Lock> {
  const writing = `Another shrinker writes to the store "${dir}": wait until it is done, and prune again`;
  const writer = await takeLock(join(layout.folder, "writer"), true, writing);
  try {
    const reading = `Another shrinker reads the store "${dir}" (it restores, receives or verifies): wait until it is done, and prune again`;
    const readers = await takeLock(join(layout.folder, "readers"), true, reading);
    return {
      async release() {
        await readers.release();
        await writer.release();
      },
    };
  } catch (error) {
    await writer.release();
    throw error;
  }
}
