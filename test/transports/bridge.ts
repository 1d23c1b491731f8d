/** A program for tests of `exec:` and `--stdio`: joins its stdin and stdout to the unix socket that it is given. */
import { parseAddress } from "../../core/transport/transport.ts";
import { transports } from "../../transports/registry.ts";
import { listenStdio } from "../../transports/stdio.ts";
import { join } from "../support/relay.ts";

const { signal } = new AbortController();
const listener = await listenStdio({ signal });
// None of these may reach the stream.
console.log("a line that a library prints");
console.info("another");
process.stdout.write("and one more\n");
const address = parseAddress(process.argv[2]!, transports);
const [inner, outer] = [await listener.accept(), await transports.get(address.scheme)!.dial(address, { signal })];
if ((await listener.accept()) !== undefined) throw new Error("stdio has one peer");
await join(inner!, outer);
process.exit(0);
