/** What a guest prints, line by line, with the time at which it came: by that its downtime is told. */
import { once } from "node:events";
import { createServer } from "node:net";
import { within } from "./process.ts";

export interface Console extends AsyncDisposable {
  /** All the pieces so far; `at` in milliseconds of `performance.now()`. */
  readonly pieces: readonly Piece[];
}

export interface Piece {
  readonly at: number;
  readonly text: string;
}

export interface Tick {
  readonly number: number;
  readonly at: number;
}

/** Listens at `path` for a QEMU's serial port. */
export async function listenToConsole(path: string): Promise<Console> {
  const pieces: Piece[] = [];
  const server = createServer((socket) => {
    socket.on("error", () => {}); // QEMU was ended.
    socket.setEncoding("latin1").on("data", (text) => pieces.push({ at: performance.now(), text: String(text) }));
  });
  server.listen(path);
  await within(5, `listening at ${path}`, once(server, "listening"));
  return {
    pieces,
    async [Symbol.asyncDispose]() {
      server.close();
    },
  };
}

/**
 * The guest's `SEQ` lines, each at the time of its end. A line may begin on one machine and end on the next: hand over the pieces
 * of both, one after the other.
 */
export function ticks(pieces: readonly Piece[]): Tick[] {
  const found: Tick[] = [];
  let rest = "";
  for (const { at, text } of pieces) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const number = /^SEQ (\d+)\r?$/.exec(line)?.[1];
      if (number !== undefined) found.push({ number: Number(number), at });
    }
  }
  return found;
}

/** The longest time from one tick to the next, in milliseconds, among those that end in `from` to `to`. */
export function longestGap(all: readonly Tick[], from: number, to: number): number {
  let longest = 0;
  for (let i = 1; i < all.length; i++) {
    const { at } = all[i]!;
    if (at >= from && at <= to) longest = Math.max(longest, at - all[i - 1]!.at);
  }
  return longest;
}
