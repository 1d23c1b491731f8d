/**
 * The far end of a link with a delay, as a process in the far site: see `RelayOrder`. What it cannot show is how TCP itself takes
 * to a long way: the connection over the link ends here, before the delay.
 */
import { startWan } from "../../test/support/wan.ts";
import type { RelayOrder } from "./sites.ts";

const { listen, to, ports, delay, rate } = JSON.parse(process.argv[2] ?? "") as RelayOrder;
for (const port of ports) await startWan({ listen: { host: listen, port }, to: { host: to, port }, delay, rate });
console.log("listening");
