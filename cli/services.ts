import { LinkError, ShrinkerError, systemCode } from "../core/errors.ts";
import type { Address } from "../core/transport/transport.ts";
import type { DialService } from "../core/tunnel/exit.ts";
import { findTransport } from "./addresses.ts";

/** What a service's connections are taken for unless it is said otherwise: what is no stream of QEMU's passes as it is. */
const DEFAULT_FORMAT = "qemu";
const FORMATS = ["qemu", "nbd", "bytes"];
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** What may stand behind `unix:` and `tcp:`; the transports are asked only when a service is used. */
const LOCAL: Readonly<Record<string, RegExp>> = { unix: /^[^\0]+$/, tcp: /:\d{1,5}$/ };
const EXPECTED = "expected NAME=unix:PATH or NAME=tcp:HOST:PORT";

/** A service as the command line names it: `NAME=unix:PATH` or `NAME=tcp:HOST:PORT`, with `,format=qemu|nbd|bytes`. */
export interface ServiceSpec {
  readonly name: string;
  readonly address: Address;
  readonly format: string;
}

/**
 * Throws `usage` for what can't be a service, and for two of the same name.
 * @param side where connections of the service are made: at the end that listens for them, or at the one that dials
 */
export function parseServices(texts: readonly string[], side: "listens" | "dials"): ServiceSpec[] {
  const names = new Set<string>();
  return texts.map((text) => {
    const spec = parseService(text, side);
    if (names.has(spec.name))
      throw new ShrinkerError("usage", `Two services are called "${spec.name}": give each its own name`);
    names.add(spec.name);
    return spec;
  });
}

function parseService(text: string, side: "listens" | "dials"): ServiceSpec {
  const match = /^([^=]*)=(.*?)(?:,format=([^,]*))?$/s.exec(text);
  if (!match) throw new ShrinkerError("usage", `Cannot parse "${text}": ${EXPECTED}`);
  const [, name = "", where = "", format] = match;
  if (!NAME.test(name)) {
    const rule = "letters, digits, dots, dashes and underscores, 64 at most";
    throw new ShrinkerError("usage", `Cannot use "${name}" as a service's name: expected ${rule}`);
  }
  if (format !== undefined && side === "dials")
    throw new ShrinkerError("usage", `"${text}" has a format: that is for \`shrinker tunnel\`, which sends the stream`);
  if (format !== undefined && !FORMATS.includes(format))
    throw new ShrinkerError("usage", `Unknown format "${format}" in "${text}": use one of ${FORMATS.join(", ")}`);
  const { address } = findTransport(where);
  const anyPort = address.scheme === "tcp" && /:0+$/.test(address.rest);
  if (!LOCAL[address.scheme]?.test(address.rest) || (anyPort && side === "dials"))
    throw new ShrinkerError("usage", `Cannot use "${where}": ${EXPECTED}`);
  return { name, address, format: format ?? DEFAULT_FORMAT };
}

const ABSENT = new Set(["ECONNREFUSED", "ENOENT"]);

/** Connects to a service. What the user names here is allowed beyond this machine as well: it is the user's own network. */
export function serviceDialler({ address }: ServiceSpec): DialService {
  const { transport } = findTransport(address.text);
  return async (signal) => {
    try {
      return await transport.dial(address, { signal, insecure: true });
    } catch (error) {
      // The transport would advise to start a receiver there.
      const absent = error instanceof LinkError && ABSENT.has(systemCode(error.cause) ?? "");
      throw absent ? new LinkError(`nothing listens at ${address.text}`, { cause: error }) : error;
    }
  };
}
