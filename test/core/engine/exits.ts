/** Runs sessions that end in all ways, and then only waits for the process to end by itself. */
import { CancelledError, ShrinkerError } from "../../../core/errors.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { memoryTarget, migrateBoth, record, replay, source } from "../../support/session.ts";
import { noise } from "./contents.ts";

async function* slow(): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < 300; i++) {
    yield noise(i);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

const sources = () => [source("a", "raw", [noise(1), noise(2)]), source("b", "raw", slow())];

await migrateBoth(sources());
for (const which of ["sending", "receiving"] as const) {
  const cancel = new AbortController();
  setTimeout(() => cancel.abort(new CancelledError()), 30);
  await migrateBoth(sources(), { [which]: { signal: cancel.signal } });
}
const [near, far] = memoryPair();
setTimeout(() => void near.destroy(), 30);
await migrateBoth(sources(), { pair: [near, far] });
const full = memoryTarget(() => ({ write: () => Promise.reject(new ShrinkerError("space", "full")) }));
await migrateBoth(sources(), { target: full });
await migrateBoth(sources(), { sending: { domain: "other" } });
const bundle = await record(sources());
await replay(bundle);
await replay(bundle.subarray(0, -30)).catch(() => {});
console.log("all over");
