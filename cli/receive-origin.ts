import { statSync } from "node:fs";
import { ShrinkerError } from "../core/errors.ts";
import type { Listener } from "../core/transport/transport.ts";
import { listenStdio } from "../transports/stdio.ts";
import { stripedTransport } from "../transports/striped.ts";
import { findTransport, openEndpoint } from "./addresses.ts";
import type { Invocation } from "./command.ts";
import type { Options } from "./options.ts";

/** Where sessions come from. */
export type Origin =
  | { readonly kind: "bundle"; readonly text: string }
  | { readonly kind: "stdio" }
  | { readonly kind: "listen"; readonly text: string };

/** Which one the command line says. Throws `usage` where that is none, or several. */
export function readOrigin(args: readonly string[], options: Options): Origin {
  const [bundle, ...others] = args;
  const ways = [bundle !== undefined, options.given("stdio"), options.given("listen")].filter(Boolean).length;
  if (others.length > 0) throw new ShrinkerError("usage", `One bundle at a time: "${others[0]}" is one too many`);
  if (ways > 1) throw new ShrinkerError("usage", "Give one of file:BUNDLE, --stdio and --listen ADDRESS");
  if (bundle !== undefined) {
    if (bundle.startsWith("file:")) return { kind: "bundle", text: bundle };
    throw new ShrinkerError(
      "usage",
      `Cannot receive "${bundle}": expected file:BUNDLE; for a link use --listen ADDRESS`,
    );
  }
  if (options.given("stdio")) return { kind: "stdio" };
  const listening = options.text("listen");
  if (listening === undefined)
    throw new ShrinkerError("usage", "From where? Give file:BUNDLE, --listen ADDRESS or --stdio");
  if (listening.startsWith("file:"))
    throw new ShrinkerError("usage", `Cannot listen at "${listening}": a bundle is given without --listen`);
  return { kind: "listen", text: listening };
}

/** Waits there for what comes; for a bundle, that is it. */
export async function listen(origin: Origin, invocation: Invocation): Promise<Listener> {
  const { signal } = invocation.interrupt;
  if (origin.kind === "stdio") return listenStdio({ signal });
  const { address, transport, insecure } = await openEndpoint(origin.text, invocation);
  return stripedTransport(transport, 1).listen(address, { signal, insecure });
}

/** Its bytes, for the progress; a bundle that comes through a pipe has none. */
export function bundleSize(origin: Origin): number | undefined {
  if (origin.kind !== "bundle") return undefined;
  const stats = statSync(findTransport(origin.text).address.rest, { throwIfNoEntry: false });
  return stats?.isFile() ? stats.size : undefined;
}
