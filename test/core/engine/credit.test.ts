import { expect, test } from "bun:test";
import { acceptSession } from "../../../core/engine/destination-session.ts";
import { CancelledError } from "../../../core/errors.ts";
import { decodeCredit, encodeControl, Open } from "../../../core/wire/control.ts";
import { FRAME } from "../../../core/wire/numbers.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { destinationOptions, memoryTarget } from "../../support/session.ts";
import { HandPeer } from "./wire.ts";

/** MiB that so many streams may send before anything is written of them. */
async function granted(streams: number): Promise<number> {
  const [near, far] = memoryPair();
  const peer = new HandPeer(near);
  const accepting = acceptSession(far, { ...destinationOptions, target: memoryTarget() });
  await peer.hello({ log: 100 });
  const running = (await accepting).run().catch(() => {});
  await peer.expect(FRAME.WELCOME);
  let sum = 0;
  for (let stream = 1; stream <= streams; stream++) {
    await peer.send(FRAME.OPEN, encodeControl(Open, { stream, name: `s${stream}`, format: "raw" }));
    sum += decodeCredit((await peer.expect(FRAME.CREDIT)).payload).total;
  }
  await peer.connection.destroy(new CancelledError("enough"));
  await running;
  return sum / 2 ** 20;
}

test("what may wait for the sinks is at most 22 MiB for one stream, 66 for 12, and 182 for 128", async () => {
  const sums = [await granted(1), await granted(12), await granted(128)].map((sum) => Math.ceil(sum));
  expect(sums).toEqual([22, 66, 182]);
});
