/** A program for tests of `file:-`: copies one bundle to another, and prints what must not be in it. */
import { dial, listen } from "./helpers.ts";

const [from, to] = process.argv.slice(2) as [string, string];
const target = await dial(to);
console.log("a line that a library prints");
const source = (await (await listen(from)).accept())!;
for await (const piece of source.input) await target.write([piece]);
await target.end();
await Promise.all([source.destroy(), target.destroy()]);
process.exit(0);
