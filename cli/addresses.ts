import { type Address, parseAddress, type TransportRegistry } from "../core/transport/transport.ts";
import { transports } from "../transports/registry.ts";

/** What a command line can use: `memory:` only connects within a process. */
const usable: TransportRegistry = new Map([...transports].filter(([scheme]) => scheme !== "memory"));

/** An address and the transport for it. Throws `usage`. */
export function findTransport(text: string) {
  const address: Address = parseAddress(text, usable);
  return { address, transport: usable.get(address.scheme)! };
}
