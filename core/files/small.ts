import { constants, open } from "node:fs/promises";

/**
 * All of a file that is known to be small; undefined where it has more than `most` bytes, of which no more are read, or is a FIFO
 * or a device. Rejects with the system's error.
 */
export async function readSmall(path: string, most: number): Promise<Buffer | undefined> {
  // Without waiting for whoever would write to a FIFO.
  await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const stats = await handle.stat();
  if (!stats.isFile() && !stats.isDirectory()) return undefined;
  const buffer = Buffer.alloc(Math.min(stats.size, most) + 1);
  for (let length = 0; length < buffer.length; ) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length);
    if (bytesRead === 0) return buffer.subarray(0, length);
    length += bytesRead;
  }
  return undefined;
}
