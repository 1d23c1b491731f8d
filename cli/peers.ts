import { PAGE_SIZE } from "../core/content/page.ts";
import { ShrinkerError } from "../core/errors.ts";
import { permits } from "../core/identity/authorized-peers.ts";
import type { StreamTarget } from "../core/machines/machine.ts";
import type { PeerIdentity } from "../core/transport/transport.ts";
import { MIN_WINDOW_LOG } from "../core/wire/numbers.ts";
import type { ReceivingOptions } from "./receive-session.ts";

/** What a receiver lets a peer do, of all that it does. An unauthenticated one may do it all. */
export function asPermitted(receiving: ReceivingOptions, peer: PeerIdentity | undefined): ReceivingOptions {
  if (!peer) return receiving;
  const { name, permissions } = peer;
  const { domains, services: reachable, vms, memory } = permissions;
  const { domain, admit, services } = receiving;
  return {
    ...receiving,
    ...(memory !== undefined && remembering(receiving, memory)),
    ...(services && { services: (service) => (permits(reachable, service) ? services(service) : undefined) }),
    target: vms ? bringing(receiving.target, vms) : receiving.target,
    mayBring: (guest) => permits(vms, guest),
    admit() {
      if (domain !== undefined && !permits(domains, domain))
        throw new ShrinkerError("refused", `"${name}" may not use the domain "${domain}" of this receiver`);
      admit?.();
    },
  };
}

/** Contents to refer to, and the window in which they are compressed. */
function remembering({ logLimit, windowLog }: ReceivingOptions, memory: number) {
  return {
    logLimit: Math.max(1, Math.min(logLimit, Math.floor(memory / PAGE_SIZE))),
    windowLog: Math.max(MIN_WINDOW_LOG, Math.min(windowLog, Math.floor(Math.log2(memory)))),
  };
}

function bringing(target: StreamTarget, vms: readonly string[]): StreamTarget {
  return {
    async open(info, failed) {
      if (!permits(vms, info.name)) throw new ShrinkerError("refused", `You may not bring "${info.name}" here`);
      return target.open(info, failed);
    },
  };
}
