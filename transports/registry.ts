import type { Transport, TransportRegistry } from "../core/transport/transport.ts";
import { bundle } from "./bundle.ts";
import { exec } from "./exec.ts";
import { memory } from "./memory.ts";
import { quic } from "./quic.ts";
import { tcp } from "./tcp.ts";
import { unix } from "./unix.ts";
import { webtransport } from "./webtransport.ts";

const known: readonly Transport[] = [
  tcp, //
  unix,
  quic,
  webtransport,
  exec,
  bundle,
  memory,
];

/** Every transport there is, by its scheme. */
export const transports: TransportRegistry = new Map(known.map((transport) => [transport.scheme, transport]));
