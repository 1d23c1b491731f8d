import { lookup } from "node:dns/promises";
import { abortReason, ShrinkerError } from "../core/errors.ts";
import { requireSecurity } from "../core/transport/security.ts";
import type { Address, Connection, DialOptions } from "../core/transport/transport.ts";
import { socketError } from "./advice.ts";
import { CONNECT_MS } from "./socket.ts";

/** The least time that each of a host's addresses gets, where it has several. */
const ATTEMPT_MS = 2500;

/** `HOST:PORT`, of the transports that go through a network. */
export interface HostPort {
  /** A name, or an address without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Throws `usage`. */
function parseHostPort({ scheme, rest, text }: Address): HostPort {
  const match = /^(?:\[([0-9a-f:.%\w]+)\]|([^:[\]/\s]+)):(\d{1,5})$/i.exec(rest);
  const port = Number(match?.[3]);
  if (!match || port > 65535)
    throw new ShrinkerError(
      "usage",
      `Cannot parse "${text}": expected ${scheme}://HOST:PORT or ${scheme}://[IPV6]:PORT`,
    );
  return { host: (match[1] ?? match[2]) as string, port };
}

/** What a dialler of such a transport checks first. Throws `usage`, or as `requireSecurity` does. */
export function placeToDial(address: Address, { security, insecure = false }: DialOptions): HostPort {
  const place = placeToListen(address, { security, insecure });
  if (place.port === 0) throw new ShrinkerError("usage", `Cannot connect to "${address.text}": give the peer's port`);
  return place;
}

/** And a listener. */
export function placeToListen(
  address: Address,
  { security, insecure = false }: { readonly security?: object | undefined; readonly insecure?: boolean },
): HostPort {
  const place = parseHostPort(address);
  requireSecurity(address, security, insecure);
  return place;
}

export function formatHostPort(scheme: string, host: string, port: number): string {
  return host.includes(":") ? `${scheme}://[${host}]:${port}` : `${scheme}://${host}:${port}`;
}

/** The host's addresses, at least one. Rejects with a `LinkError`, or the signal's reason. */
export async function lookupHost(address: Address, host: string, signal: AbortSignal): Promise<string[]> {
  if (signal.aborted) throw abortReason(signal);
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(abortReason(signal));
  signal.addEventListener("abort", onAbort);
  try {
    // A name server may take its time: the signal must not wait for it.
    const found = await Promise.race([lookup(host, { all: true }), aborted.promise]);
    return found.map((entry) => entry.address);
  } catch (error) {
    throw socketError("Cannot use", address.text, error);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/**
 * Connects to a host's addresses one after the other, so that one whose first is dead is still reached by its second.
 * Rejects with the last failure, or the signal's reason.
 * @param attempt connects to one of them within a time
 * @param connectMs for all of them
 */
export async function reachAny(
  hosts: readonly string[],
  signal: AbortSignal,
  attempt: (ip: string, timeoutMs: number) => Promise<Connection>,
  connectMs = CONNECT_MS,
): Promise<Connection> {
  const deadline = performance.now() + connectMs;
  let failure: unknown;
  for (const [i, ip] of hosts.entries()) {
    const left = deadline - performance.now();
    if (left <= 0) break;
    try {
      return await attempt(ip, Math.min(left, Math.max(ATTEMPT_MS, left / (hosts.length - i))));
    } catch (error) {
      if (signal.aborted) throw error;
      failure = error;
    }
  }
  throw failure;
}
