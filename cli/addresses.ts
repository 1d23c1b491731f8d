import { type Address, parseAddress, type Transport, type TransportRegistry } from "../core/transport/transport.ts";
import { transports } from "../transports/registry.ts";
import type { Invocation } from "./command.ts";

/** What a command line can use: `memory:` only connects within a process. */
const usable: TransportRegistry = new Map([...transports].filter(([scheme]) => scheme !== "memory"));

/** An address and the transport for it. Throws `usage`. */
export function findTransport(text: string) {
  const address: Address = parseAddress(text, usable);
  return { address, transport: usable.get(address.scheme)! };
}

export interface Endpoint {
  readonly address: Address;
  /** Authenticates, unless the user wants it otherwise. */
  readonly transport: Transport;
  readonly insecure: boolean;
}

/** An address where another site is, or may come from, and the transport for it, with the keys that the user has. */
export async function openEndpoint(text: string, invocation: Invocation): Promise<Endpoint> {
  const { address, transport } = findTransport(text);
  const insecure = invocation.options.flag("insecure");
  if (insecure || !transport.authenticates) return { address, transport, insecure };
  // Loaded when it is needed: most of it is for certificates.
  const { withTrust } = await import("./trust.ts");
  return { address, transport: await withTrust(transport, invocation), insecure };
}
