import { ShrinkerError } from "../core/errors.ts";
import type { Address } from "../core/transport/transport.ts";
import type { DialService } from "../core/tunnel/exit.ts";
import { findTransport } from "./addresses.ts";

/** What a service's connections are taken for unless it is said otherwise: what is no stream of QEMU's passes as it is. */
const DEFAULT_FORMAT = "qemu";
const FORMATS = ["qemu", "bytes"];
const LOCAL = ["unix", "tcp"];
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** A service as the command line names it: `NAME=unix:PATH` or `NAME=tcp:HOST:PORT`, with `,format=qemu|bytes`. */
export interface ServiceSpec {
  readonly name: string;
  readonly address: Address;
  readonly format: string;
}

/** Throws `usage` for what can't be a service, and for two of the same name. */
export function parseServices(texts: readonly string[]): ServiceSpec[] {
  const specs = texts.map(parseService);
  const names = new Set<string>();
  for (const { name } of specs) {
    if (names.has(name)) throw new ShrinkerError("usage", `Two services are called "${name}": give each its own name`);
    names.add(name);
  }
  return specs;
}

function parseService(text: string): ServiceSpec {
  const expected = "expected NAME=unix:PATH or NAME=tcp:HOST:PORT";
  const match = /^([^=]*)=(.*?)(?:,format=([a-z]*))?$/s.exec(text);
  if (!match) throw new ShrinkerError("usage", `Cannot parse "${text}": ${expected}`);
  const [, name = "", where = "", format = DEFAULT_FORMAT] = match;
  if (!NAME.test(name)) {
    const rule = "letters, digits, dots, dashes and underscores, 64 at most";
    throw new ShrinkerError("usage", `Cannot use "${name}" as a service's name: expected ${rule}`);
  }
  if (!FORMATS.includes(format))
    throw new ShrinkerError("usage", `Unknown format "${format}" in "${text}": use one of ${FORMATS.join(", ")}`);
  const { address } = findTransport(where);
  if (!LOCAL.includes(address.scheme)) throw new ShrinkerError("usage", `Cannot use "${where}": ${expected}`);
  return { name, address, format };
}

/** Connects to a service. What the user names here is allowed beyond this machine as well: it is the user's own network. */
export function serviceDialler({ address }: ServiceSpec): DialService {
  const { transport } = findTransport(address.text);
  return (signal) => transport.dial(address, { signal, insecure: true });
}
