/** Fetches the contents below its second argument from the store that is its first, all at once, and prints how many it got. */
import { Store } from "../../../core/store/store.ts";
import { contents, DOMAIN, PAGE, range } from "./contents.ts";

const { digests, pages: right, count } = contents(range(0, Number(process.argv[3])));
const store = await Store.open(process.argv[2]!, { domain: DOMAIN });
const found = new Uint8Array(count);
const pages = new Uint8Array(count * PAGE);
await store.fetch(digests, count, found, pages);
await store.close();
console.log(
  JSON.stringify({ found: found.filter((one) => one === 1).length, same: Buffer.compare(pages, right) === 0 }),
);
