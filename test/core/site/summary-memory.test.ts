// A summary takes as much memory while it is made as docs/limits.md says.
import { expect, test } from "bun:test";
import { randomFillSync } from "node:crypto";
import { PREFIX_SIZE, type PrefixTable } from "../../../core/index/prefix-table.ts";
import { summarize } from "../../../core/site/summary.ts";
import type { Store } from "../../../core/store/store.ts";

const COUNT = 300_000;
const PAYLOAD = 8;

/** Does `work` and counts the bytes of all typed arrays that it makes. */
async function allocatedBy<T>(work: () => Promise<T>): Promise<{ result: T; bytes: number }> {
  const types = { Uint8Array, Uint16Array, Uint32Array };
  let bytes = 0;
  for (const [name, type] of Object.entries(types)) {
    const counting = new Proxy(type, {
      construct(target, args) {
        const made = Reflect.construct(target, args);
        if (typeof args[0] === "number") bytes += made.byteLength;
        return made;
      },
    });
    Reflect.set(globalThis, name, counting);
  }
  try {
    return { result: await work(), bytes };
  } finally {
    Object.assign(globalThis, types);
  }
}

test.each([8, 16] as const)("a summary of %d bits takes at most 40 bytes a content while it is made", async (bits) => {
  const records = randomFillSync(Buffer.alloc(COUNT * (PREFIX_SIZE + PAYLOAD)));
  const table = { count: COUNT, payloadSize: PAYLOAD, records } as unknown as PrefixTable;
  const store = { tables: () => [table] } as unknown as Store;
  const { result, bytes } = await allocatedBy(() => summarize(store, undefined, bits));
  expect(result.length).toBeGreaterThan((COUNT * bits) / 8);
  const each = (bytes + result.length) / COUNT;
  expect(each).toBeLessThan(40);
  // It has to be somewhere: keys, hashes and slots are.
  expect(each).toBeGreaterThan(24);
});
