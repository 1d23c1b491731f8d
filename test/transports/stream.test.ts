import { expect, test } from "bun:test";
import { Readable, Writable } from "node:stream";
import { streamConnection } from "../../transports/stream.ts";

test("what nobody takes is read ahead as far as is said, and no further", async () => {
  const PIECE = 16 << 10;
  for (const readAhead of [32 << 10, 128 << 10]) {
    let given = 0;
    const readable = new Readable({
      highWaterMark: PIECE,
      read() {
        given += PIECE;
        setImmediate(() => this.push(Buffer.alloc(PIECE)));
      },
    });
    const connection = streamConnection({
      ...{ peer: "test", readable, readAhead, explain: () => new Error("broken") },
      writable: new Writable({ write: (_piece, _encoding, done) => done() }),
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    // Besides it, what the runtime's stream holds itself.
    expect(given).toBeGreaterThanOrEqual(readAhead);
    expect(given).toBeLessThanOrEqual(readAhead + 3 * PIECE);
    let taken = 0;
    for await (const { length } of connection.input) {
      taken += length;
      if (taken >= 4 * readAhead) break;
    }
    await connection.destroy();
  }
});
