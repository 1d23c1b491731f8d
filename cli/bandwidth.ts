import { limitRate } from "../core/transport/limit.ts";
import type { Connection } from "../core/transport/transport.ts";
import type { Options } from "./options.ts";
import { parseRate } from "./units.ts";

/** What `--bandwidth` makes of a connection: one that sends no faster; itself where nothing is said. */
export type Limited = (connection: Connection) => Connection;

export function readBandwidth(options: Options): Limited {
  const rate = options.read("bandwidth", parseRate);
  return (connection) => (rate === undefined ? connection : limitRate(connection, rate));
}
