import { ShrinkerError } from "../core/errors.ts";
import type { Transport } from "../core/transport/transport.ts";
import { MAX_CONNECTIONS, stripedTransport } from "../transports/striped.ts";
import type { Options } from "./options.ts";
import { parseCount } from "./units.ts";

/**
 * The transport as `--connections` wants it: each connection that is dialled is carried by so many. Throws `usage` where it
 * can't have several.
 */
export function overConnections(transport: Transport, options: Options): Transport {
  const count = options.read("connections", (text) => parseCount(text, MAX_CONNECTIONS)) ?? 1;
  if (count > 1 && !transport.resumable)
    throw new ShrinkerError(
      "usage",
      `--connections: ${transport.scheme}: has only one connection; leave it out, or use tcp://HOST:PORT`,
    );
  return count === 1 ? transport : stripedTransport(transport, count);
}
