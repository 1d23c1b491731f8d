import { CancelledError } from "../../errors.ts";
import type { Reader } from "../image/reader.ts";
import type { NbdClient } from "./client.ts";
import { findHoles, type Stretch } from "./holes.ts";

/** Of one request for bytes; a buffer's are made at once, so that the server is never without one. */
const PART = 256 << 10;
/** Of one request for holes. */
const MAX_STATUS = 1 << 30;

export interface Ends {
  /** All was read: rejects where it can't have been right. */
  finish(): Promise<void>;
  /** Never rejects. */
  close(): Promise<void>;
}

/** Reads a disk without its holes, which are asked for by the GiB. */
export function nbdReader(client: NbdClient, ends: Ends): Reader {
  const { size } = client;
  let position = 0;
  let stretches: readonly Stretch[] = [];
  let nextStretch = 0;

  /** What the position is in; undefined at the end. */
  async function stretch(): Promise<Stretch | undefined> {
    while (nextStretch < stretches.length && stretches[nextStretch]!.end <= position) nextStretch++;
    if (position < size && nextStretch === stretches.length) {
      const extents = await client.extents(position, Math.min(MAX_STATUS, size - position));
      stretches = findHoles(extents, position, size);
      nextStretch = 0;
    }
    return stretches[nextStretch];
  }

  return {
    async hole() {
      const here = await stretch();
      if (!here?.zeros) return 0;
      const length = here.end - position;
      position = here.end;
      return length;
    },
    async read(buffer) {
      const here = await stretch();
      if (!here) return 0;
      const length = Math.min(buffer.length, here.end - position);
      const parts: Promise<void>[] = [];
      for (let at = 0; at < length; at += PART) {
        parts.push(client.read(buffer.subarray(at, Math.min(at + PART, length)), position + at));
      }
      await Promise.all(parts);
      position += length;
      return length;
    },
    finish: ends.finish,
    interrupt: () => client.interrupt(new CancelledError()),
    close: ends.close,
  };
}
