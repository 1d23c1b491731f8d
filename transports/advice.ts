import { LinkError, ShrinkerError, systemCode } from "../core/errors.ts";

const ADVICE: Record<string, string> = {
  ECONNREFUSED: "nothing listens there; start `shrinker receive --listen ADDRESS` there first",
  ENOENT: "nothing listens there; start `shrinker receive --listen ADDRESS` there first",
  ECONNRESET: "the peer broke the connection; its own messages say why",
  ECONNABORTED: "the peer broke the connection; its own messages say why",
  EPIPE: "the peer has closed the connection; its own messages say why",
  ETIMEDOUT: "it does not answer; check the address, and that no firewall is in the way",
  EHOSTUNREACH: "there is no route to that host; check the address and the network",
  ENETUNREACH: "there is no route to that network; check the address and the network",
  EADDRINUSE: "another process listens there; end it, or choose another address",
  EADDRNOTAVAIL: "this machine does not have that address; choose one that it has",
  ENOTFOUND: "no such host is known; check its name",
  EAI_AGAIN: "the name server does not answer; check the network, or give the number instead of the name",
  EACCES: "permission denied; choose an address that you may use (ports below 1024 need privileges)",
  EPERM: "permission denied; choose an address that you may use",
  ENOTDIR: "a part of its path is not a directory",
  EAGAIN: "it has too many connections that wait; try again",
  EMFILE: "this process has too many open files; raise `ulimit -n`",
};

/**
 * A system error of a socket, as advice.
 * @param doing what was tried, such as `Cannot connect to`
 */
export function socketError(doing: string, address: string, error: unknown): ShrinkerError {
  if (error instanceof ShrinkerError) return error;
  const advice = ADVICE[systemCode(error) ?? ""]?.replace("ADDRESS", address);
  const why = advice ?? (error instanceof Error ? error.message : "the connection closed early");
  return new LinkError(`${doing} ${address}: ${why}`, { cause: error });
}
